"""A simulated GPU: torch's fake tensors, which have a device, shapes and dtypes, but no values."""

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

WIDE = (torch.float64, torch.complex128)


class _Refuse(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.device.type == "cuda" and tensor.dtype in WIDE:
                raise TypeError(f"{func} makes {tensor.dtype} on the device, which MPS lacks")
        return result


class WithoutFloat64:
    """Context in which tensors are fake and float64 on the device "cuda" raises TypeError, as on MPS."""

    def __enter__(self):
        self._modes = FakeTensorMode(allow_non_fake_inputs=True), _Refuse()
        for mode in self._modes:
            mode.__enter__()

    def __exit__(self, *error):
        for mode in reversed(self._modes):
            mode.__exit__(*error)
