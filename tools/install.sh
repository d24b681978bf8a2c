#!/bin/sh
# Make the virtual environment $1 and install the project with the versions of constraints.txt.
set -eu
venv=$1
python=${PYTHON:-python3.11}
command -v "$python" >/dev/null 2>&1 || python=python3
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "Python 3.11 or newer is needed; name it: make install PYTHON=/path/to/python3.11" >&2
    exit 1
}
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"

install() {
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt "$@"
}

# torch comes first: as a requirement of others it would bring several GB of CUDA packages to machines without a GPU.
torch=$(grep '^torch==' constraints.txt)
if ! "$venv/bin/python" -c 'import torch' 2>/dev/null; then
    if command -v nvidia-smi >/dev/null 2>&1; then
        install "$torch"
    elif ! install --no-deps "$torch+cpu" 2>/dev/null; then
        # The default index has no CPU build under Linux; uv knows where there is one.
        install uv
        "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --torch-backend cpu "$torch"
    fi
fi
install --editable ".[dev]"
