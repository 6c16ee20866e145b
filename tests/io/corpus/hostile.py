"""Pickles inside sound zips that ask for more than a checkpoint may."""

from pathlib import Path

import torch
from torch import nn

from tests.io.corpus.case import FILE, Case
from tests.io.corpus.raw import (
    bare,
    call,
    item,
    name_,
    new,
    pickled,
    pushed,
    storage,
    tensor,
    text,
)

TOUCH = "touch canary"
SAID = {"tree": 3}  # refused as data already
SEEN = {"tree": 0}  # read as data, nothing of it is built
ASKS = "the safe loader refuses its pickle"
UNSAFE = "to load it,"


def runs(
    name: str, value: bytes, says: str = "can run any code", *, code: int = 4, tree: int = 0
) -> Case:
    """Return the case of a value, beside a sound model, that would run something."""
    return Case(name, pickled(item(value)), says, code, {"tree": tree})


def both(*values: bytes) -> bytes:
    """Return what pushes a list of values."""
    return b"](" + b"".join(values) + b"e"


def whole(**attributes: object) -> bytes:
    """Return a file of a module that has everything, and these attributes."""
    tables = ("_modules", "_parameters", "_buffers")
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    state = {**{table: {} for table in tables}, **dict.fromkeys(hooks, ORDERED), "training": False}
    code = new("torch.nn.modules.container", "Sequential") + b"q\1"
    return bare(code + pushed({**state, **attributes}) + b"b.")


def _doubled(folder: Path) -> None:
    """Write a module that is under 2**40 paths."""
    module = nn.Sequential()
    for _ in range(40):
        module = nn.Sequential(module, module)
    torch.save(module, folder / FILE)


def _linear(size: int) -> bytes:
    return call("torch.nn.modules.linear", "Linear", size, size)


RELU = name_("torch.nn.functional", "relu")
ORDERED = b"ccollections\nOrderedDict\n)R"

RUN = (
    runs("os.system", call("os", "system", TOUCH)),
    runs("posix.system", call("posix", "system", TOUCH)),
    runs("subprocess", call("subprocess", "getoutput", TOUCH)),
    runs("builtins.eval", call("builtins", "eval", "open('canary', 'w')")),
    runs("builtins.exec of Python 2", call("__builtin__", "eval", "open('canary', 'w')")),
    runs("open", call("io", "open", "canary", "w")),
    runs("pathlib", call("pathlib", "Path.touch", "canary")),
    runs("getattr chain", call("builtins", "getattr", name_("os", "system"), "__call__")),
    runs("import", call("importlib", "import_module", "antigravity")),
    runs("runpy", call("runpy", "run_path", "canary.py")),
    runs("torch.load", call("torch", "load", "net.pt")),
    runs("torch.hub", call("torch.hub", "load", "x/y", "z"), UNSAFE),
    runs("torch.jit", call("torch.jit", "load", "net.pt"), UNSAFE),
    runs("torch.storage from bytes", call("torch.storage", "_load_from_bytes", "x"), UNSAFE),
    runs("fx module", call("torch.fx.graph_module", "reduce_graph_module", {}, ""), UNSAFE),
    runs("shelve", call("shelve", "open", "canary"), UNSAFE),
    runs("pickle.loads", call("pickle", "loads", "cos\nsystem\n."), UNSAFE),
    runs("numpy's own runner", call("numpy.testing._private.utils", "runstring", "1", {}), UNSAFE),
    runs("name with a dot", call("torch", "os.system", TOUCH), UNSAFE),
    runs(
        "name inside torch that torch imported", call("torch.nn.modules.module", "warnings"), UNSAFE
    ),
    runs("function of modswap", call("modswap.nn.construct", "construct"), UNSAFE),
    runs("class that is here and not allowed", call("tests.models", "Keep"), UNSAFE),
    runs("name with escapes", call("\x1b[31mred", "x"), UNSAFE),
    runs("name that is empty", call("", ""), "error"),
    runs("name that is very long", call("a" * 10_000, "b" * 10_000), UNSAFE),
    runs("name that turns text around", call("\u202egnp", "x"), UNSAFE),
)

TAKE = (
    runs("bytearray of 8 GiB", call("builtins", "bytearray", 8 << 30), "reserves memory", tree=4),
    runs("bytearray of Python 2", call("__builtin__", "bytearray", 8 << 30), "error", tree=4),
    runs(
        "bytearray without its constructor", new("builtins", "bytearray", 8 << 30), "error", tree=4
    ),
    runs("tensor of 8 GiB", call("torch", "FloatTensor", 1 << 31), "reserves memory", tree=4),
    runs(
        "tensor of a size",
        call("torch", "Tensor", call("torch", "Size", (1 << 33,))),
        "error",
        tree=4,
    ),
    runs("tensor made anew", new("torch", "FloatTensor", 1 << 33), "error", tree=4),
    runs("storage of 8 GiB", call("torch", "UntypedStorage", 1 << 33), "reserves memory", tree=4),
    runs("storage made anew", new("torch", "UntypedStorage", 1 << 33), "error", tree=4),
    runs("layer of 10 GB", _linear(50_000), "the constructor of torch.nn.modules.linear.Linear"),
    runs("layer behind a set", both(b"\x8f", _linear(50_000)), ASKS, code=3, tree=3),
    runs(
        "layer behind a state set twice",
        both(ORDERED + pushed({}) + b"b" + pushed({}) + b"b", _linear(50_000)),
        ASKS,
        code=3,
        tree=3,
    ),
    runs(
        "counter of a long text",
        both(call("collections", "Counter", "x" * 1000), call("builtins", "bytearray", 1 << 33)),
        "reserves memory",
        tree=4,
    ),
)

SHAPES = tuple(
    Case(f"tensor with {what}", pickled(item(code)), says, code_, {"tree": 0, **codes})
    for what, code, says, code_, codes in (
        ("a million million elements on one", tensor((10**12,), (0,)), "more memory", 3, SAID),
        ("a stride beyond its storage", tensor((8,), (1 << 20,)), "error", 3, {}),
        ("an offset beyond its storage", tensor((8,), (1,), 1 << 40), "error", 3, {}),
        ("an offset below nought", tensor((8,), (1,), -4), "error", 3, {}),
        ("a stride below nought", tensor((8,), (-1,)), "error", 3, {}),
        ("a size below nought", tensor((-8,), (1,)), "error", 3, {}),
        ("a size that overflows", tensor((1 << 62, 8), (1, 1)), "error", 3, SAID),
        ("a size beyond all numbers", tensor((1 << 70,), (1,)), "error", 3, SAID),
        ("a size that is text", tensor("8", (1,)), "error", 3, SAID),
        ("fewer strides than sizes", tensor((8, 3), (1,)), "error", 3, {}),
        ("a thousand axes", tensor((1,) * 1000, (1,) * 1000), "", 0, {}),
        ("a storage that is not there", tensor(stored=storage("99")), "error", 3, {}),
        ("a storage that is elsewhere", tensor(stored=storage("../version")), "error", 3, {}),
        ("a storage of no name", tensor(stored=storage("")), "error", 3, {}),
        ("a storage larger than its record", tensor(stored=storage("1", 1 << 30)), "error", 3, {}),
        ("a storage smaller than nothing", tensor(stored=storage("1", -1)), "error", 3, {}),
        ("a storage of a text", tensor(stored=storage("1", "216")), ASKS, 3, SAID),
        (
            "a storage of a float",
            tensor(stored=storage("1", b"G?\xf0\0\0\0\0\0\0")),
            ASKS,
            3,
            SAID,
        ),
        ("no storage", tensor(stored=b"N"), "error", 3, {}),
        (
            "a storage of another dtype",
            tensor(stored=storage("1", 8, "DoubleStorage")),
            "error",
            3,
            {},
        ),
    )
)

PLANTED = "in place of the method"
HALF = "is half made"
SEQUENTIAL = name_("torch.nn.modules.container", "Sequential")
MODULES = (
    *(
        Case(f"planted {key}", whole(**{key: value}), PLANTED, 4, SEEN)
        for key, value in (
            ("forward", RELU),
            ("_call_impl", RELU),
            ("train", RELU),
            ("eval", 5),
            ("state_dict", RELU),
            ("__class__", SEQUENTIAL),
            ("to", None),
        )
    ),
    Case("forward planted later", pickled(pushed({"forward": RELU}) + b"b", "module"), ASKS),
    Case("module made and nothing more", bare(SEQUENTIAL + b")\x81."), HALF),
    Case(
        "module without hooks",
        bare(
            SEQUENTIAL
            + b")\x81"
            + pushed({"_modules": {}, "_parameters": {}, "_buffers": {}, "training": False})
            + b"b."
        ),
        HALF,
        3,
        SEEN,
    ),
    Case("module that holds itself", whole(_modules={"0": b"h\1"}), "contains itself"),
    Case("modules that double at every level", _doubled, "paths"),
    Case(
        "module that is kept by its child",
        whole(_modules={"0": SEQUENTIAL + b")\x81" + pushed({"_modules": {"0": b"h\1"}}) + b"b"}),
        "contains itself",
    ),
    *(
        Case(
            f"module whose {table} is {what}",
            whole(**{table: value}),
            "error",
            4 if (table, what) == ("_forward_hooks", "a list") else 3,
            SEEN,
        )
        for table in ("_modules", "_parameters", "_buffers", "_forward_hooks", "training")
        for what, value in (
            ("a list", [1]),
            ("a number", 7),
            ("a table of numbers", {1: 2}),
            ("a table of texts", {"a": "b"}),
        )
    ),
    Case(
        "module whose table of buffers to leave out is a list",
        whole(_non_persistent_buffers_set=[1]),
        HALF,
        3,
        SEEN,
    ),
    Case(
        "module whose later hooks are a class",
        whole(_forward_hooks_with_kwargs=name_("collections", "OrderedDict")),
        "error",
        4,
        SEEN,
    ),
    Case("key that is a module", pickled(SEQUENTIAL + b")\x81Ns"), HALF, 0),
    Case("hook that is a number", whole(_forward_hooks=ORDERED + b"K\0K\7s"), HALF, 3, SEEN),
    Case(
        "hook that is a function",
        whole(_forward_pre_hooks=ORDERED + b"K\0" + RELU + b"s"),
        "has a hook that would be called: 'torch.nn.functional.relu'",
        4,
        SEEN,
    ),
    Case(
        "dictionary with planted items",
        pickled(item(ORDERED + pushed({"items": 5}) + b"b")),
        PLANTED,
        4,
        SEEN,
    ),
    Case(
        "weights with planted items",
        pickled(
            text("ema")
            + ORDERED
            + b"("
            + text("a")
            + tensor()
            + b"u"
            + pushed({"items": 5, "copy": 6, "values": 7, "keys": 8, "get": 9})
            + b"bs"
        ),
        PLANTED,
        4,
        SEEN,
    ),
    Case(
        "tensor with planted attributes",
        pickled(item(tensor() + pushed({"shape": 5}) + b"b")),
        "as no torch since 0.4 does",
        4,
        SEEN,
    ),
    Case(
        "parameter with planted attributes",
        pickled(
            item(
                call(
                    "torch._utils",
                    "_rebuild_parameter_with_state",
                    tensor(),
                    True,
                    ORDERED,
                    {"numel": 5},
                )
            )
        ),
        "it puts an attribute 'numel' into a tensor, in place of its own",
        4,
        SEEN,
    ),
    Case(
        "tensor that is set",
        pickled(
            item(new("torch", "FloatTensor") + pushed((storage("1", 8), 0, (10**12,), (0,))) + b"b")
        ),
        "it sets attributes of a torch.FloatTensor, which has none",
        4,
        SEEN,
    ),
    Case(
        "sparse rows with bad places",
        pickled(
            item(
                call(
                    "torch._utils",
                    "_rebuild_sparse_tensor",
                    call("torch.serialization", "_get_layout", "torch.sparse_csr"),
                    (tensor((2,), (1,)), tensor((2,), (1,)), tensor((2,), (1,)), (2, 2)),
                )
            )
        ),
        "error",
        3,
        SEEN,
    ),
    Case(
        "own rebuilding",
        pickled(
            item(
                call(
                    "torch._tensor",
                    "_rebuild_from_type_v2",
                    RELU,
                    name_("torch", "Tensor"),
                    (tensor(),),
                    {},
                )
            )
        ),
        "would be called to make a tensor",
        4,
        SEEN,
    ),
)

DEEP = b"]" * 30_000 + b"a" * 29_999
TUPLES = b")" + b"\x85" * 30_000
LAUGHS = (
    b"(" + text("lol") * 10 + b"lq\1" + b"".join(b"(" + b"h\1" * 10 + b"tq\1" for _ in range(9))
)
OPCODES = (
    Case("nothing but a number", bare(b"\x80\2K\1."), "it holds int"),
    Case("nothing but a text", bare(text("x") + b"."), "it holds str"),
    Case("empty dictionary", bare(b"}."), "no model under its keys"),
    Case("list that holds itself", bare(b"]q\1h\1a."), "contains itself"),
    Case(
        "dictionary that holds itself",
        pickled(b"q\xff" + item(b"h\xff")),
        "contains itself",
    ),
    Case("nested lists", pickled(item(DEEP)), "", 0),
    Case("nested tuples", pickled(item(TUPLES)), "", 0),
    Case(
        "nested dictionaries", pickled(item(b"}" + (text("a") + b"}") * 3000 + b"s" * 3000)), "", 0
    ),
    Case("billion laughs", pickled(item(LAUGHS)), "error"),
    Case("key that is a list", pickled(b"]Ns"), "error"),
    Case("key that is a tensor", pickled(tensor() + b"Ns"), "", 0),
    Case("keys that are numbers", bare(b"}(K\1K\2K\3" + tensor() + b"u."), "error"),
    Case("empty stack", bare(b"."), "error"),
    Case("mark that nothing closes", bare(b"(((((."), "error"),
    Case("memo that nothing filled", bare(b"h\7."), "error"),
    Case("far place in the memo", bare(b"}r\xff\xff\xff\xff0j\xff\xff\xff\xff."), "error"),
    Case("text longer than the file", bare(b"X\xff\xff\xff\xff."), "error"),
    Case("text that is no UTF-8", bare(b"X\1\0\0\0\xff."), "error"),
    Case("long number", bare(b"\x8b\0\0\0\x7f."), ASKS),
    Case("long number of less than nothing", bare(b"\x8b\xff\xff\xff\xff."), ASKS),
    Case("number in digits", bare(b"L" + b"9" * 100_000 + b"L\n."), ASKS),
    Case("extension", bare(b"\x82\1."), ASKS),
    Case("far extension", bare(b"\x84\xff\xff\xff\x7f."), ASKS),
    Case("INST", bare(b"(S'touch canary'\nios\nsystem\n."), ASKS),
    Case("OBJ", bare(b"(cos\nsystem\nX\1\0\0\0xo."), ASKS),
    Case("STACK_GLOBAL", bare(b"\x80\4" + b"\x8c\2os\x8c\6system\x93\x8c\1x\x85R."), "error"),
    Case(
        "frame of 2**63 bytes", bare(b"\x80\4\x95\xff\xff\xff\xff\xff\xff\xff\x7f."), "protocol 4"
    ),
    Case("bytes of 2**40", bare(b"\x80\4\x8e\0\0\0\0\0\1\0\0."), "protocol 4"),
    Case("buffer out of band", bare(b"\x80\5\x97."), "protocol 5"),
    Case("protocol 0", bare(b"(dp0\nS'model'\np1\nI1\ns."), ASKS),
    Case("protocol 200", bare(b"\x80\xc8}."), "error"),
    Case("persistent number", bare(b"K\7Q."), "error"),
    Case("persistent text", bare(b"P../../etc/passwd\n."), ASKS),
    Case(
        "persistent module",
        bare(pushed(("module", b"ccollections\nOrderedDict\n", "", "")) + b"Q."),
        "a whole module in the format of before",
    ),
    Case("call of a number", bare(b"K\1)R."), "error"),
    Case("state of a number", bare(b"K\1}b."), "error"),
    Case("pickle of 300 kB of marks", bare(b"(" * 300_000 + b"."), "error"),
    Case("pickle of 300 kB of Nones", bare(b"N" * 300_000 + b"."), "in nothing"),
)

CASES = (*RUN, *TAKE, *SHAPES, *MODULES, *OPCODES)
