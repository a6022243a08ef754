"""The scoring service as it ships in a Bento, there under the name `convoy_service`; it imports nothing of ours but itself."""

PROTOCOL = "Open Inference Protocol v2"
SERVICE_VERSION = "1"
