#!/usr/bin/env python3
"""Checks any decoder of `.siren` images against the vectors in this directory (section 10 of
../siren.md): what it renders, and what it must refuse. Needs Python 3.8 and nothing else.

    python3 check.py COMMAND ARGUMENT...

The command is run once for each vector; in its arguments {file}, {width}, {height} and {out} are
replaced. It renders the file at that size, at the pixel centres of section 7, and writes to {out}
either the values t of section 8 as little-endian binary64, row by row, channels side by side, or
their 8-bit samples as a binary PGM, PPM or PAM. For a file of bad/ it must end with another status
than 0 and without {out}. For example:

    python3 check.py python3 decode.py --f64 {file} {out} {width}x{height}
    python3 check.py sirenc decode {file} --size {width}x{height} --sampling point --depth 8 \\
        --format pam -o {out}
"""
import array
import math
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
MOST_SECONDS = 60


def values(data):
    """binary64 numbers."""
    numbers = array.array("d")
    numbers.frombytes(data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def sample(t):
    return math.floor(min(max(t, 0.0), 1.0) * 255 + 0.5) if t == t else 0


def samples(data, count):
    """The 8-bit samples that a decoder wrote; None if they are not so many."""
    if len(data) == 8 * count:
        return [sample(t) for t in values(data)]
    header = re.match(rb"P7\n.*?ENDHDR\n|P[56]\s+\d+\s+\d+\s+255\s", data, re.DOTALL)
    if header and len(data) == header.end() + count:
        return list(data[header.end():])
    return None


def run(command, file, width, height, out):
    """The status and the last line of what the command said."""
    places = {"{file}": file, "{width}": width, "{height}": height, "{out}": out}
    def filled(argument):
        for place, value in places.items():
            argument = argument.replace(place, str(value))
        return argument
    try:
        done = subprocess.run([filled(argument) for argument in command], timeout=MOST_SECONDS,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    except subprocess.TimeoutExpired:
        return None, f"it took more than {MOST_SECONDS} seconds"
    said = done.stdout.decode(errors="replace").strip().splitlines()
    return done.returncode, said[-1] if said else "it said nothing"


def check(command, vector, out):
    """None, or what is wrong."""
    name, width, height = re.fullmatch(r"(.*)\.(\d+)x(\d+)\.f64", vector.name).groups()
    status, said = run(command, HERE / f"{name}.siren", width, height, out)
    if status != 0:
        return f"status {status}: {said}"
    wanted = [sample(t) for t in values(vector.read_bytes())]
    found = samples(out.read_bytes(), len(wanted)) if out.exists() else None
    if found is None:
        return f"not {len(wanted)} values in binary64, nor as many 8-bit samples in PNM"
    differences = [abs(a - b) for a, b in zip(found, wanted) if a != b]
    if differences and max(differences) > 1:
        return f"a sample differs by {max(differences)}"
    if len(differences) > len(wanted) / 1000:
        return f"{len(differences)} of {len(wanted)} samples differ"
    return None


def refuse(command, file, out):
    """None, or what is wrong."""
    # Their native size, as far as the header tells one.
    size = re.match(rb".{12}([\x01-\x7f])([\x01-\x7f])", file.read_bytes(), re.DOTALL)
    width, height = (size[1][0], size[2][0]) if size else (8, 8)
    status, said = run(command, file, width, height, out)
    if status is None or status < 0:
        return f"status {status}: {said}"
    if status == 0 or out.exists():
        return "it is not refused"
    return None


def main(command):
    if not command or command[0] in ("-h", "--help"):
        sys.exit(__doc__)
    vectors = [(check, file) for file in sorted(HERE.glob("*.f64"))]
    bad = [(refuse, file) for file in sorted((HERE / "bad").glob("*.siren"))]
    failed = 0
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "out"
        for test, file in vectors + bad:
            wrong = test(command, file, out)
            if wrong:
                print(f"{file.relative_to(HERE)}: {wrong}")
                failed += 1
            out.unlink(missing_ok=True)
    print(f"{len(vectors)} vectors and {len(bad)} bad files: {failed} failed")
    return 1 if failed or not vectors or not bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
