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
echo "installing into $venv, which takes some minutes" >&2
"$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear "$venv"

install() {
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt "$@"
}

# torch comes first: as a requirement of others it would bring several GB of CUDA packages to machines without a GPU.
torch=$(grep '^torch==' constraints.txt)
there=$("$venv/bin/python" -c 'import torch; print("torch==" + torch.__version__.split("+")[0])' 2>/dev/null || true)
if [ "$there" != "$torch" ]; then
    if command -v nvidia-smi >/dev/null 2>&1; then
        install "$torch"
    else
        # The default index has no CPU build for Linux. Some machines' pip knows one; uv knows where there is one.
        "$venv/bin/python" -m pip download --quiet --no-deps --dest "$venv/torch" "$torch+cpu" >/dev/null 2>&1 &&
            install --find-links "$venv/torch" "$torch+cpu" || {
            install uv
            "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --torch-backend cpu "$torch"
        }
        rm -rf "$venv/torch"
    fi
fi
install --editable ".[dev]"
