"""Judge the names in a pickle as text; nothing is imported."""

import re

# modules and names that run code, import it or reach files: never offered for `--allow`
_RUNS = (
    "_ctypes", "_frozen_importlib", "_io", "_pickle", "_posixsubprocess", "asyncio", "atexit",
    "bdb", "builtins", "bz2", "cloudpickle", "code", "codecs.open", "codeop", "commands",
    "compileall", "concurrent", "ctypes", "dbm", "dill", "distutils", "ensurepip", "fileinput",
    "ftplib", "gc", "gzip", "http", "imaplib", "imp", "importlib", "inspect", "io", "joblib",
    "linecache", "logging.FileHandler", "logging.config", "logging.handlers", "lzma", "marshal",
    "mailbox", "mmap", "multiprocessing", "nt", "numpy.distutils", "numpy.f2py", "numpy.load",
    "numpy.testing", "operator", "os", "pandas.read_pickle", "pdb", "pickle", "pip", "pkgutil",
    "platform", "poplib", "posix", "profile", "pty", "pydoc", "requests", "runpy", "setuptools",
    "shelve", "shutil", "signal", "site", "smtplib", "socket", "socketserver", "sqlite3",
    "subprocess", "sys", "tempfile", "threading", "timeit", "tarfile", "torch.fx", "torch.hub",
    "torch.jit", "torch.load", "torch.ops", "torch._C.PyTorchFileReader",
    "torch._C.PyTorchFileWriter", "torch._dynamo", "torch._inductor", "torch.distributed.rpc",
    "torch.multiprocessing", "torch.package", "torch.serialization",
    "torch.storage._load_from_bytes", "torch.utils._config_module", "torch.utils.collect_env",
    "torch.utils.cpp_extension", "trace", "types.CodeType", "types.FunctionType",
    "types.LambdaType", "types.MethodType", "urllib", "venv", "webbrowser", "xmlrpc", "zipapp",
    "zipfile", "zipimport",
)  # fmt: skip
# modules that packages import and so contain: `package.module.os.system`
_INSIDE = (
    "builtins", "ctypes", "importlib", "os", "pickle", "posix", "shutil", "subprocess", "sys",
    "torch.hub", "torch.jit", "torch.load", "torch.ops", "torch.utils.cpp_extension",
)  # fmt: skip
# builtins that hold data and call nothing: treated as any other class
_PLAIN = frozenset(
    f"builtins.{name}"
    for name in (
        "Ellipsis", "bool", "bytes", "complex", "dict", "float", "frozenset", "int", "list",
        "object", "range", "set", "slice", "str", "tuple",
    )
) | {"torch.serialization._get_layout"}  # fmt: skip

# what torch's safe unpickler takes for names of Python 2, in pickles of any protocol
_MODULES = {
    "__builtin__": "builtins", "copy_reg": "copyreg", "Queue": "queue", "repr": "reprlib",
    "_abcoll": "collections.abc", "UserDict": "collections", "UserList": "collections",
    "UserString": "collections", "whichdb": "dbm", "StringIO": "io", "cStringIO": "io",
}  # fmt: skip
_RENAMED = {
    "__builtin__.xrange": "builtins.range", "__builtin__.reduce": "functools.reduce",
    "__builtin__.intern": "sys.intern", "__builtin__.unichr": "builtins.chr",
    "__builtin__.unicode": "builtins.str", "__builtin__.long": "builtins.int",
    "__builtin__.basestring": "builtins.str", "itertools.izip": "builtins.zip",
    "itertools.imap": "builtins.map", "itertools.ifilter": "builtins.filter",
    "itertools.ifilterfalse": "itertools.filterfalse",
    "itertools.izip_longest": "itertools.zip_longest",
    "UserDict.IterableUserDict": "collections.UserDict",
    "exceptions.StandardError": "builtins.Exception",
}  # fmt: skip


def _in(module: str, names: str) -> set[str]:
    return {f"{module}.{name}" for name in names.split()}


_PATHS = "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath"
_NUMPY_ARRAYS = "_reconstruct scalar"
_NUMPY_SCALARS = (
    "bool bool_ bytes_ complex128 complex64 datetime64 dtype float16 float32 float64 int16 int32 "
    "int64 int8 longdouble ndarray object_ str_ timedelta64 uint16 uint32 uint64 uint8 void"
)
_PLAIN_DATA = frozenset({
    "argparse.Namespace", "decimal.Decimal", "fractions.Fraction", "types.SimpleNamespace",
    "typing.Any", "uuid.UUID", "uuid.SafeUUID", "zoneinfo.ZoneInfo._unpickle",
    *_in("builtins", "Ellipsis bytes complex frozenset range slice"),
    *_in("collections", "ChainMap UserDict UserList UserString deque"),
    *_in("datetime", "date datetime time timedelta timezone"),
    *_in("pathlib", _PATHS), *_in("pathlib._local", _PATHS),
    *_in("numpy", _NUMPY_SCALARS),
    *_in("numpy._core.multiarray", _NUMPY_ARRAYS), *_in("numpy.core.multiarray", _NUMPY_ARRAYS),
    "numpy._core.numeric._frombuffer", "numpy.core.numeric._frombuffer",
    *_in("numpy.random._pickle", "__bit_generator_ctor __generator_ctor __randomstate_ctor"),
    *_in("numpy.random", "_mt19937.MT19937 _pcg64.PCG64 _pcg64.PCG64DXSM _philox.Philox "
         "_sfc64.SFC64"),
    # settings of libraries, which hold numbers, texts, lists and mappings
    *_in("omegaconf.base", "Container ContainerMetadata Metadata Node"),
    *_in("omegaconf", "dictconfig.DictConfig listconfig.ListConfig"),
    *_in("omegaconf.nodes", "AnyNode BooleanNode BytesNode FloatNode IntegerNode PathNode "
         "StringNode InterpolationResultNode"),
    "addict.addict.Dict", "box.box.Box", "box.box_list.BoxList", "easydict.EasyDict",
    "fvcore.common.config.CfgNode", "ml_collections.config_dict.config_dict.ConfigDict",
    "mmcv.utils.config.ConfigDict", "mmengine.config.config.ConfigDict",
    "mmengine.logging.history_buffer.HistoryBuffer", "munch.Munch", "yacs.config.CfgNode",
    "detectron2.config.config.CfgNode",
    "lightning.fabric.utilities.data.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
})  # fmt: skip
_DTYPES = "numpy.dtypes."


def dotted(module: str, attribute: str) -> str:
    """Return the dotted name of the object that an unpickler takes for a name in a pickle."""
    name = f"{module}.{attribute}"
    known = _MODULES.get(module)
    return _RENAMED.get(name) or (f"{known}.{attribute}" if known else name)


def runs_code(name: str) -> bool:
    """Return whether a name from a file is known to run code when it is called."""
    if name in _PLAIN:
        return False
    bare = f".{name.removeprefix('__main__.')}."
    known = any(bare.startswith(f".{module}.") for module in _RUNS)
    known = known or any(f".{module}." in bare for module in _INSIDE)
    # a path is plain text, its methods write and delete
    known = known or (bare.startswith(".pathlib.") and not is_plain_data(name))
    # a module such as `package.__main__` runs when it is imported
    special = any(re.fullmatch("__.*__", part) for part in name.split(".")[1:])
    return known or special or not is_name(name)


def is_name(name: str) -> bool:
    """Return whether it is a dotted name; any other text might be a path on the disk."""
    return all(segment.isidentifier() for segment in name.split("."))


def key_text(key: object) -> str:
    """Return a key of a dictionary as part of a name; printing an object as key could fail."""
    return str(key) if isinstance(key, (str, int, float, type(None))) else "<key>"


def is_plain_data(name: str) -> bool:
    """Return whether a name in a pickle is a class of plain data, or a function that makes it.

    Training scripts keep such beside the weights. A file of weights is read without them: nothing
    of theirs is built, and they are written again as the data that they are in the pickle.
    """
    return name in _PLAIN_DATA or (name.startswith(_DTYPES) and name.count(".") == 2)
