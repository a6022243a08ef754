"""Images of revisions as OCI layout folders, written without a daemon."""
