"""The scoring service as it ships in a Bento, there under the name `convoy_service`; it imports nothing of ours but itself.

A revision's folder, as `bentos/build.py` lays it out and `settings.py` reads it:

    <root>.manifest          the manifest's bytes, beside the folder that they name
    <root>/bento.yaml        BentoML's own files, with env/ and apis/
    <root>/src/service.py    what `bentoml serve <root>` imports
    <root>/src/revision.json model and version that the Bento was built for
    <root>/src/model/        the MLflow model
    <root>/src/convoy_service/
"""

SERVICE_VERSION = "1"
