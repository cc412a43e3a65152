"""The command line of `make fuzz`: atheris goes on from the corpus, with one process for each target."""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
from pathlib import Path

__all__ = ["main"]

_NAMES = ("request", "response", "chunked", "target", "exchange")
_LONGEST = 4096  # Bytes of an input; limits have tests of their own.


def main() -> int:
    """Fuzz the targets that were asked for in turn; 0 when none of them failed."""
    options = _options()
    try:
        import atheris  # noqa: F401 - asked for here, used by the processes
    except ImportError as error:
        print(
            f"no fuzzing: {error}. atheris has wheels for Linux on x86-64; `make test` replays the corpus without it."
        )
        return 2
    if options.inside:
        _fuzz(options.targets[0], options.directory, options.seconds)
    failed = []
    for name in options.targets or _NAMES:
        print(f"--- {name}: {options.seconds} s, new inputs in {options.directory / name}", flush=True)
        command = [sys.executable, "-m", "fuzz", name, "--inside"]
        command += ["--seconds", str(options.seconds), "--directory", str(options.directory)]
        if subprocess.run(command, check=False).returncode != 0:
            failed.append(name)
    print(f"failed: {', '.join(failed)}; each input is in {options.directory}" if failed else "nothing was found")
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make fuzz", description="Feed the parsers and the proxy what nobody wrote.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", choices=[*_NAMES, []], help=f"of {', '.join(_NAMES)}")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (60)")
    parser.add_argument("--directory", type=Path, default=Path(".fuzz"), help="where inputs are kept (.fuzz)")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def _fuzz(name: str, directory: Path, seconds: int) -> None:
    """Fuzz one target; the fuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["portway_proxy"]):
        from fuzz.seeds import CORPUS, WORDS, seeds
        from fuzz.targets import TARGETS
    found = directory / name
    begun = directory / f"{name}.seeds"
    for one in (found, begun):
        one.mkdir(parents=True, exist_ok=True)
    for seed in seeds(name):
        (begun / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    words = directory / "words"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in WORDS))
    arguments = [f"-max_total_time={seconds}", f"-dict={words}", f"-max_len={_LONGEST}", "-print_final_stats=1"]
    arguments += [f"-artifact_prefix={directory}/{name}-", "-timeout=30", "-rss_limit_mb=4096", "-verbosity=0"]
    corpora = [str(one) for one in (found, begun, CORPUS / name) if one.is_dir()]
    atheris.Setup([name, *arguments, *corpora], TARGETS[name])
    atheris.Fuzz()


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{octet:02x}" for octet in word)


if __name__ == "__main__":
    sys.exit(main())
