"""The layers of the house: what is imported or included lies in the same layer or below, never above."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "pockettts_fast"
SOURCES = ROOT / "csrc"

# Lowest first. A name stands for the module, or for everything in the folder of this name.
PYTHON_LAYERS = (
    ("errors", "defaults", "audio", "http_cache", "hub", "safetensors_file"),
    ("config_rules", "config", "weight_names", "weights", "voice_state", "testing_vocabulary", "testing"),
    ("flow_lm", "mimi"),
    ("tokenizer", "text", "sampling", "voice", "testing_quality"),
    ("engine",),
    ("tts",),
    ("benchmark", "server", "integrations"),
    ("cli",),
    ("__main__",),
)
C_LAYERS = (("base",), ("simd", "isa", "kernels"), ("blocks",), ("bindings",))
# The C++ extension computes; who may call it.
USERS_OF_CORE = {"flow_lm", "mimi", "engine", "tts", "benchmark", "cli"}
# Slow to import or not needed by everyone: inside functions only.
LATE = {"huggingface_hub", "sentencepiece", "tokenizers", "soundfile", "torch", "yaml", "safetensors"}
# Headers without code that a compiler would emit into an object of one instruction set.
PLAIN_HEADERS = {"stddef.h", "cstddef", "immintrin.h", "arm_neon.h"}

needs_sources = pytest.mark.skipif(not SOURCES.is_dir(), reason="the C++ sources are not here")


def layer_of(name: str, layers: tuple[tuple[str, ...], ...]) -> int:
    for index, names in enumerate(layers):
        if name in names:
            return index
    raise AssertionError(f"{name!r} has no layer: give it one in this file")


# --- Python ----------------------------------------------------------------------------------------------


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def own_name(path: Path) -> str:
    """The module's name in the layers: of a folder, the folder's."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def statements(node: ast.AST, in_function: bool = False) -> Iterator[tuple[ast.stmt, bool]]:
    """Every import below `node`, and whether it is inside a function; type-checking blocks are left out."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child, in_function
        else:
            yield from statements(child, in_function or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)))


def imported(statement: ast.stmt) -> list[str]:
    """Full names of the modules that an import statement asks for."""
    if isinstance(statement, ast.Import):
        return [alias.name for alias in statement.names]
    assert isinstance(statement, ast.ImportFrom)
    assert statement.level == 0, "imports name the whole path"
    if statement.module == "pockettts_fast":
        return [f"pockettts_fast.{alias.name}" for alias in statement.names]
    return [statement.module or ""]


def uses(path: Path) -> Iterator[tuple[str, bool]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for statement, in_function in statements(tree):
        for name in imported(statement):
            yield name, in_function


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_uses_nothing_above_it(path):
    own = layer_of(own_name(path), PYTHON_LAYERS)
    for name, _ in uses(path):
        if not name.startswith("pockettts_fast"):
            continue
        part = name.split(".")[1]
        if part == "_core":
            assert own_name(path) in USERS_OF_CORE, f"{path.name} may not use _core"
        elif part[0].isupper() or part == "__version__":
            # A public name, which is the whole package's.
            assert own_name(path) in ("cli", "benchmark", "server", "integrations", "__main__")
        else:
            assert layer_of(part, PYTHON_LAYERS) <= own, f"{path.name} uses {part}, which is above it"


def test_modules_do_not_import_each_other_in_a_circle():
    graph = {}
    for path in modules():
        if own_name(path) in ("cli", "audio"):
            continue
        names = {name.split(".")[1] for name, late in uses(path) if name.startswith("pockettts_fast.") and not late}
        graph.setdefault(own_name(path), set()).update(names & {own_name(other) for other in modules()})
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join((*above, name))
        if name not in done:
            for other in sorted(graph.get(name, ())):
                visit(other, (*above, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_libraries_are_imported_late(path):
    early = {name.split(".")[0] for name, late in uses(path) if not late}
    assert early & LATE == set()


def test_nothing_heavy_is_loaded_by_the_import_of_the_package():
    import subprocess
    import sys

    code = (
        "import sys, pockettts_fast\n"
        "assert 'numpy' not in sys.modules\n"
        "pockettts_fast.TTSModel.load_model\n"
        f"print(sorted({LATE!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


# --- C++ -------------------------------------------------------------------------------------------------


def sources() -> list[Path]:
    return sorted(path for path in SOURCES.rglob("*") if path.suffix in (".h", ".cpp"))


def includes(path: Path) -> Iterator[tuple[str, bool]]:
    """Names of the included headers, and whether they are the project's own."""
    for quote, name in re.findall(r'^\s*#include\s+(["<])([^">]+)[">]', path.read_text(encoding="utf-8"), re.M):
        yield name, quote == '"'


@needs_sources
@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(SOURCES)))
def test_a_source_includes_nothing_above_it(path):
    own = layer_of(path.relative_to(SOURCES).parts[0], C_LAYERS)
    for name, is_own in includes(path):
        if not is_own:
            continue
        assert (SOURCES / name).is_file(), f"{name} is not written from csrc on"
        assert layer_of(name.split("/")[0], C_LAYERS) <= own, f"{path.name} includes {name}, which is above it"


@needs_sources
def test_python_is_known_to_the_bindings_alone():
    for path in sources():
        if path.relative_to(SOURCES).parts[0] != "bindings":
            assert not [name for name, _ in includes(path) if name.startswith(("pybind11", "Python"))], path


@needs_sources
def test_intrinsics_are_in_the_vector_headers_alone():
    # cpu.cpp asks the processor, parallel.cpp pauses it: both run on any of them.
    allowed = {"isa/table.cpp", "base/cpu.cpp", "base/parallel.cpp"}
    for path in sources():
        name = path.relative_to(SOURCES).as_posix()
        if not name.startswith("simd/") and name not in allowed:
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"\b_mm\d*_|\bimmintrin\b|\barm_neon\b|\bv[a-z]+q_[fsu]\d+\b", text), name


@needs_sources
def test_what_is_compiled_for_one_instruction_set_holds_no_library_code():
    """An inline function of the library compiled for AVX-512 could replace the baseline's at link time."""
    waiting, seen = [SOURCES / "isa" / "table.cpp", *(SOURCES / "simd").glob("*.h")], set()
    while waiting:
        path = waiting.pop()
        seen.add(path)
        for name, is_own in includes(path):
            if not is_own:
                assert name in PLAIN_HEADERS, f"{path.relative_to(SOURCES)} includes <{name}>"
            elif SOURCES / name not in seen:
                waiting.append(SOURCES / name)
    assert len(seen) > 5
