"""The parts of a standalone file that are the same in each."""

HEAD = '''"""{title}

`load(file)` returns the model of {file} or of another file of the same kind. Written by modswap
{version}, which it does not need.{notes}
"""
'''
LICENCE = """\
# The parts from modswap: MIT License, Copyright (c) 2026 The modswap authors.
# Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
# associated documentation files (the "Software"), to deal in the Software without restriction,
# including without limitation the rights to use, copy, modify, merge, publish, distribute,
# sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
# furnished to do so, subject to the following conditions: the above copyright notice and this
# permission notice shall be included in all copies or substantial portions of the Software.
# THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT
# NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
# NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM,
# DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT
# OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""
RESERVED = ("load", "_build", "_CLASSES", "_ALLOWED", "_KEYS", "_PREFIX", "_NAMES", "_Unpickler",
            "_Pickle", "_read", "_own_names")  # fmt: skip
LOADING = '''
__all__ = ["load"]
_CLASSES = {classes}
_ALLOWED = {allowed}
_KEYS = {keys}  # that lead to the model in a file
_PREFIX = {prefix}
_NAMES = {names}  # of the model, by those of a file


class _Unpickler(pickle.Unpickler):
    """Build the classes and tensors above, and nothing else."""

    def find_class(self, module, name):
        full = f"{{module}}.{{name}}"
        if full in _CLASSES:
            return _CLASSES[full]
        storage = module in {{"torch", "torch.storage"}} and name.endswith("Storage")
        if full in _ALLOWED or (storage and "." not in name):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{{full}} is not part of this file")


class _Pickle:
    """Stand-in for the module `pickle`, which torch reads with."""

    __name__ = "pickle"
    Unpickler = _Unpickler

    @staticmethod
    def load(file, **options):
        return _Unpickler(file, **options).load()


def _read(file):
    """Return the value of a torch or safetensors file, or of a folder of the latter."""
    file = Path(file)
    parts = sorted(file.glob("*.safetensors")) if file.is_dir() else [file]
    if parts and parts[0].suffix == ".safetensors":
        from safetensors.torch import load_file

        return {{name: tensor for one in parts for name, tensor in load_file(one).items()}}
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            if any(name.endswith("/constants.pkl") for name in archive.namelist()):
                raise ValueError(f"{{file}} holds a program of TorchScript, which is not run")
    found = torch.load(file, map_location="cpu", weights_only=False, pickle_module=_Pickle)
    for key in _KEYS:
        if isinstance(found, dict) and key in found:
            found = found[key]
    return found


def _own_names(found, model):
    """Return the tensors of a file by the model's names, also of weights that share one."""
    found = {{name.removeprefix(_PREFIX): tensor for name, tensor in found.items()}}
    found = {{_NAMES.get(name, name): tensor for name, tensor in found.items()}}
    tied = {{}}
    for name, tensor in model.state_dict(keep_vars=True).items():
        tied.setdefault(id(tensor), []).append(name)
    for names in tied.values():
        held = next((name for name in names if name in found), None)
        found |= {{name: found[held] for name in names if held and name not in found}}
    return found


def load(file) -> nn.Module:
    """Return the model with the weights of a file."""
    found = _read(file)
    if isinstance(found, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        found = found.module
    if isinstance(found, nn.Module):
{whole}
    model = _build()
    model.load_state_dict(_own_names(found, model), strict=True)
    return model
'''
WHOLE = "        return found"
# what the library's constructor does beside making the modules is missing in one of a pickle
REBUILT = "        found = found.state_dict()"
UNBUILT = """\
def _build() -> nn.Module:
    raise ValueError("this file loads whole modules: the call that builds the model is not known")
"""
