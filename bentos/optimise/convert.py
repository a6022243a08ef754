"""A worker: makes a variant of a model. It loads the model, so it runs in the sandbox and is believed in nothing.

Which of a graph's outputs is the answer follows from how MLflow asks the model (its flavour, and `predict_fn`), never
from which output happens to lie nearest; whether that is right is what the parity gate finds out.
"""

from __future__ import annotations

import base64
from dataclasses import replace

from bentos.optimise.flavours import FLAVOURS, Unfit
from bentos.optimise.gaps import refused
from bentos.optimise.graphs import in_order, smaller
from bentos.optimise.messages import Converted, ConvertRequest
from bentos.optimise.together import together
from bentos.service.errors import ServiceError
from bentos.service.signature import signature_of
from bentos.service.variant import Document, loaded
from fleet.declared_optimise import Variant
from fleet.worker_channel import answer, receive


def main() -> None:
    """Answer one ConvertRequest."""
    answer(converted(receive(ConvertRequest)))


def converted(request: ConvertRequest) -> Converted:
    """Return a variant's files, or why this model has no such variant."""
    try:
        graph, document = _converted(request)
    except (Unfit, ServiceError) as problem:
        return Converted(problem=str(problem))
    except Exception as problem:  # noqa: BLE001 - a converter raises what it happens to raise, and says with it that it cannot
        return Converted(problem=f"the converter failed ({type(problem).__name__}: {' '.join(str(problem).split())[:300]})")
    return Converted(base64.b64encode(graph).decode(), document.to_bytes().decode())


def _converted(request: ConvertRequest) -> tuple[bytes, Document]:
    from mlflow.models import Model

    described = Model.load(str(request.model))
    flavour = next((name for name in FLAVOURS if name in described.flavors), None)
    loader = described.flavors.get("python_function", {}).get("loader_module")
    if flavour is None or loader != f"mlflow.{flavour}":
        raise Unfit(f"models of {', '.join(FLAVOURS)} have variants, and this one is loaded by {loader}")
    if described.signature is not None and described.signature.params:
        raise Unfit("its signature declares parameters, which a graph does not take")
    signature = signature_of(described.signature)
    graph, feeds, told = FLAVOURS[flavour](request, described.flavors, signature)
    document = Document(request.variant.value, feeds, told)
    refuses = refused(request, signature, loaded(graph.SerializeToString(), document))
    if request.variant is not Variant.ONNX:
        graph = smaller(graph, request.variant)
    elif flavour == "onnx":
        raise Unfit("it is an ONNX model already")
    made = in_order(graph).SerializeToString(deterministic=True)
    # What the converters write goes row by row; a graph that was logged as one may do anything
    alone = flavour == "onnx" and not together(request, signature, loaded(made, document))
    return made, replace(document, refuses=refuses, together=not alone)


if __name__ == "__main__":
    main()
