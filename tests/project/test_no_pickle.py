"""Neither package can run what it reads: no pickle and its kind, no eval, no shell, checked on the code itself."""

import ast

import pytest

from tests.support.paths import ROOT

FILES = sorted([*(ROOT / "clipsearch").rglob("*.py"), *(ROOT / "indexer").rglob("*.py")])
MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "copyreg", "runpy"}
BUILTINS = {"eval", "exec", "compile", "__import__"}
ATTRIBUTES = {"os.system", "os.popen", "commands.getoutput", "subprocess.getoutput", "subprocess.getstatusoutput"}
PROCESSES = {"run", "Popen", "call", "check_call", "check_output"}


def faults(source: str) -> list[str]:
    """What a module must not have, each as `line: what`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        said = None
        if isinstance(node, ast.Import):
            said = next((alias.name for alias in node.names if alias.name.split(".")[0] in MODULES), None)
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
            said = next((name for name in names if {name.split(".")[0], name.split(".")[-1]} & MODULES), None)
        elif isinstance(node, ast.Call):
            said = call_fault(node)
        if said:
            found.append(f"{node.lineno}: {said}")
    return found


def call_fault(node: ast.Call) -> str | None:
    name = ast.unparse(node.func)
    last = name.rsplit(".", 1)[-1]
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    if name in BUILTINS | ATTRIBUTES or name.split(".")[0] in MODULES:
        return name
    if name == "torch.load" and given.get("weights_only") != "True":
        return "torch.load without weights_only=True"
    if name in ("torch.jit.load", "torch.hub.load", "torch.package.PackageImporter"):
        return name
    if last in ("create_model", "create_model_and_transforms") and given.get("weights_only") != "True":
        return f"{name} without weights_only=True"
    if name in ("np.load", "numpy.load", "np.lib.npyio.NpzFile") and given.get("allow_pickle") != "False":
        return "np.load without allow_pickle=False"
    if given.get("allow_pickle") == "True" or given.get("trust_remote_code", "False") != "False":
        return f"{name} with {given}"
    if name in ("yaml.load", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all"):
        return name
    if last in PROCESSES and given.get("shell", "False") != "False":
        return f"{name} through a shell"
    return None


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_that_is_read_can_be_run(path):
    assert faults(path.read_text()) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "import os, marshal",
        "from pickle import loads",
        "from multiprocessing import pickle",
        "import shelve as s",
        "eval('1')",
        "exec(code)",
        "__import__(name)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.jit.load(path)",
        "open_clip.create_model(name)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "np.save(path, rows, allow_pickle=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=asked)",
        "yaml.load(text)",
        "subprocess.run(line, shell=True)",
        "os.system(line)",
    ],
)
def test_the_check_sees(line):
    assert faults(f"def f():\n    {line}\n")


@pytest.mark.parametrize(
    "line",
    [
        "torch.load(path, weights_only=True)",
        "np.load(path, allow_pickle=False)",
        "model.eval()",
        "subprocess.run([sys.executable])",
        "import pickletools",
    ],
)
def test_the_check_lets_pass(line):
    assert not faults(f"def f():\n    {line}\n")
