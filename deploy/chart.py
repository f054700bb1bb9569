"""The Helm chart's examples: linted, and rendered to files that are committed.

    python -m deploy.chart            # lint all examples, write deploy/k8s/renders
    python -m deploy.chart --check    # lint, and say which render is not what the chart makes now

A generated secret is another one in every install; a render has the same placeholder for all of them. Beside the
renders is a digest of what they were made of, so that a render that is old is seen where there is no helm.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

from deploy.settings import helm_variable
from shared.errors import ConfigurationError

ROOT = Path(__file__).parent.parent
CHART = ROOT / "deploy" / "k8s"
EXAMPLES, RENDERS = CHART / "examples", CHART / "renders"
NAMESPACE = "adaserve"
KUBERNETES = "1.27.0"  # the oldest that the chart is for; helm's own guess may be older

# A chart holds only what is in its folder.
COPIES = {ROOT / "deploy" / "otel" / "collector.yaml": CHART / "files" / "collector.yaml"}

GENERATED = re.compile(r'^(\s+[\w.-]+: )"[A-Za-z0-9+/=]+"  # generated$', re.MULTILINE)
DIGESTS = "made-of.sha256"
UNREAD = ("files/rules/tests/", "files/__pycache__/")  # .helmignore

PLACEHOLDER = base64.b64encode(b"generated-when-it-is-installed-0123456789").decode()


def helm_program() -> str | None:
    """From the variable HELM, on PATH, or where `make tools` puts it; None where there is none."""
    own = ROOT / ".tools" / "helm"
    return helm_variable() or shutil.which("helm") or (str(own) if own.is_file() else None)


def helm(*arguments: str) -> str:
    """What helm prints. Raises ConfigurationError with what it says when it fails, or where there is none."""
    program = helm_program()
    if program is None:
        raise ConfigurationError("there is no helm: `make tools` fetches one; or name it in the variable HELM")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfigurationError(f"{done.stdout}{done.stderr}".strip())
    return done.stdout


def examples() -> list[str]:
    """Their names; the release of each is named alike."""
    return sorted(path.stem for path in EXAMPLES.glob("*.yaml"))


def lint(example: str) -> None:
    """Raises ConfigurationError with helm's findings."""
    helm("lint", "--strict", "--quiet", str(CHART), "--values", str(EXAMPLES / f"{example}.yaml"))


def render(example: str) -> str:
    """Every object of an example, in helm's order. Raises ConfigurationError."""
    return template(example, "--values", str(EXAMPLES / f"{example}.yaml"))


def template(release: str, *arguments: str) -> str:
    """What `helm template` makes with these arguments, generated secrets replaced. Raises ConfigurationError."""
    place = ("--namespace", NAMESPACE, "--kube-version", KUBERNETES)
    text = helm("template", release, str(CHART), *place, *arguments)
    return GENERATED.sub(rf'\g<1>"{PLACEHOLDER}"  # generated', text)


def digests() -> str:
    """As sha256sum writes them: one of all that helm reads, with the paths, and one of each render."""
    files = [CHART / name for name in ("Chart.yaml", "values.yaml", "values.schema.json", ".helmignore")]
    for folder in ("templates", "files"):
        files += [path for path in (CHART / folder).rglob("*") if path.is_file()]
    named = {path.relative_to(CHART).as_posix(): path for path in files}
    read = {name: path for name, path in named.items() if not name.startswith(UNREAD)}
    read |= {f"examples/{path.name}": path for path in EXAMPLES.glob("*.yaml")}
    chart = hashlib.sha256()
    for name, path in sorted(read.items()):
        chart.update(f"{name}\0{_sha256(path)}\n".encode())
    renders = [f"{_sha256(path)}  {path.name}" for path in sorted(RENDERS.glob("*.yaml"))]
    return "\n".join([f"{chart.hexdigest()}  chart", *renders, ""])


def changed_since() -> list[str]:
    """What is not as it was when the renders were written: `chart`, or names of renders. Needs no helm."""
    written = RENDERS / DIGESTS
    before = set(written.read_text().splitlines()) if written.is_file() else set()
    return sorted({line.partition("  ")[2] for line in before ^ set(digests().splitlines())})


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m deploy.chart", description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 for a render that is old")
    check = parser.parse_args().check
    originals = ((original.read_text(), copy) for original, copy in COPIES.items())
    copied = [copy.name for text, copy in originals if not _is_written(copy, text, not check)]
    try:
        old = copied + [example for example in examples() if not _is_rendered(example, write=not check)]
    except ConfigurationError as error:
        sys.exit(f"chart: {error}")
    gone = sorted({path.stem for path in RENDERS.glob("*.yaml")} - set(examples()))
    for name in gone if not check else ():
        (RENDERS / f"{name}.yaml").unlink()
    old += [] if _is_written(RENDERS / DIGESTS, digests(), not check) else [DIGESTS]
    if check and (old or gone):
        sys.exit(f"chart: not what the chart makes now: {', '.join(old + gone)}; run `make chart`")
    sys.stdout.write(f"{len(examples())} examples linted; renders {'checked' if check else 'written'}\n")


def _is_rendered(example: str, *, write: bool) -> bool:
    lint(example)
    return _is_written(RENDERS / f"{example}.yaml", render(example), write)


def _is_written(path: Path, text: str, write: bool) -> bool:
    """Whether a file had this text; it has it afterwards if it is to be written."""
    had = path.is_file() and path.read_text() == text
    if write and not had:
        path.write_text(text)
    return had


if __name__ == "__main__":
    main()
