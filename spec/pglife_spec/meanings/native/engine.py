"""Compiled native code. Begin with Code; llvmlite comes with the extra `fast`."""

import ctypes
import hashlib
import itertools
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Any

import llvmlite
import llvmlite.binding as llvm

from pglife_spec.meanings.store import CodeStore

LEVEL = 1
"""How hard LLVM tries: more takes longer to compile than it saves."""

_numbers = itertools.count()


class Code:
    """The functions of one module, compiled or taken from a store.

    Args:
        ir: the module.
        store: keeps the compiled object for the next process with the same processor.
    """

    def __init__(self, ir: str, store: CodeStore | None = None) -> None:
        jit, _ = _jit()
        key = _key(ir)
        compiled = store.get_object(key) if store is not None else None
        if compiled is None:
            compiled = _compiled(ir)
            if store is not None:
                store.put_object(key, compiled)
        self._compiled = compiled
        self._jit = jit
        self._library: Any = None
        self._wanted: list[str] = []

    def functions(self, **signatures: Sequence[Any]) -> list[Callable[..., int]]:
        """Functions by name, each with the types of its arguments, the result's first."""
        builder = llvm.JITLibraryBuilder().add_object_img(self._compiled).add_current_process()
        for name in signatures:
            builder.export_symbol(name)
        # The code lives as long as this tracker does.
        self._library = builder.link(self._jit, f"code{next(_numbers)}")
        return [
            ctypes.CFUNCTYPE(result, *arguments)(self._library[name])
            for name, (result, *arguments) in signatures.items()
        ]


@cache
def _jit() -> tuple[Any, Any]:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_default_triple()
    machine = target.create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=LEVEL,
        codemodel="small",
        reloc="pic",
        jit=True,
    )
    return llvm.create_lljit_compiler(machine, use_jit_link=True), machine


def _key(ir: str) -> str:
    parts = (
        ir,
        llvmlite.__version__,
        llvm.get_host_cpu_name(),
        llvm.get_host_cpu_features().flatten(),
        str(LEVEL),
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@lru_cache(maxsize=16)
def _compiled(ir: str) -> bytes:
    _, machine = _jit()
    module = llvm.parse_assembly(ir)
    tuning = llvm.create_pipeline_tuning_options(speed_level=LEVEL)
    builder = llvm.create_pass_builder(machine, tuning)
    builder.getModulePassManager().run(module, builder)
    made: bytes = machine.emit_object(module)
    return made
