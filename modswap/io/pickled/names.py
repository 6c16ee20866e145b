"""Judge the names in a pickle as text; nothing is imported."""

import re

# modules and names that run code, import it or reach files: never offered for `--allow`
_RUNS = (
    "_ctypes", "_frozen_importlib", "_io", "_pickle", "_posixsubprocess", "asyncio", "atexit",
    "bdb", "builtins", "cloudpickle", "code", "codeop", "commands", "concurrent", "ctypes", "dill",
    "distutils", "ensurepip", "ftplib", "gc", "http", "imp", "importlib", "inspect", "io",
    "joblib", "linecache", "logging.config", "marshal", "multiprocessing", "nt", "numpy.distutils",
    "numpy.f2py", "numpy.load", "numpy.testing", "operator", "os", "pandas.read_pickle", "pdb",
    "pickle", "pip", "pkgutil", "platform", "posix", "profile", "pty", "pydoc", "requests", "runpy",
    "setuptools", "shelve", "shutil", "signal", "site", "socket", "subprocess", "sys", "tempfile",
    "threading", "timeit", "torch.fx", "torch.hub", "torch.jit", "torch.load", "torch.ops",
    "torch._C.PyTorchFileReader", "torch._C.PyTorchFileWriter",
    "torch._dynamo", "torch._inductor", "torch.distributed.rpc", "torch.multiprocessing",
    "torch.package", "torch.serialization", "torch.storage._load_from_bytes",
    "torch.utils._config_module", "torch.utils.collect_env", "torch.utils.cpp_extension", "trace",
    "types.CodeType", "types.FunctionType", "types.LambdaType", "types.MethodType", "urllib",
    "venv", "webbrowser", "zipimport",
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
    # a module such as `package.__main__` runs when it is imported
    special = any(re.fullmatch("__.*__", part) for part in name.split(".")[1:])
    return known or special or not is_name(name)


def is_name(name: str) -> bool:
    """Return whether it is a dotted name; any other text might be a path on the disk."""
    return all(segment.isidentifier() for segment in name.split("."))


def key_text(key: object) -> str:
    """Return a key of a dictionary as part of a name; printing an object as key could fail."""
    return str(key) if isinstance(key, (str, int, float, type(None))) else "<key>"
