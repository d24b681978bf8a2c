#!/bin/sh
# The main job on a small scale: tools/demo.sh BIN FOLDER [CELEBA [COUNT]]
# Without CELEBA on a sample that is made on the spot, otherwise on that tree: the best COUNT of its photos; without COUNT
# all of them, or, where they are many, the first hundred of the published set.
set -eu
bin=$1 folder=$2 celeba=${3:-} count=${4:-}
few=1000

if [ -z "$celeba" ]; then
    celeba=$folder/CelebA
    "$bin/python" -m datatools.sample "$celeba"
fi
if [ -n "$count" ]; then
    choice="--selection score --count $count"
elif [ "$(find "$celeba" -name '*.jpg' 2>/dev/null | head -n $((few + 1)) | wc -l)" -le $few ]; then
    choice="--selection all"
else
    choice="--selection official --count 100"
fi
# shellcheck disable=SC2086 # two or three words on purpose
"$bin/luigi" --module pipelines BuildCelebAHQ --local-scheduler --celeba-dir "$celeba" --output-dir "$folder/out" $choice

cat <<TEXT

The report:    $folder/out/report/index.html   (open it in a browser)
The data set:  $folder/out/celebahq.h5
               $bin/python -m datatools.h5tool inspect $folder/out/celebahq.h5

To train the progressive GAN on it (a small one, minutes on a CPU; docs/training.md has the rest):

    $bin/python -m pggan.train --h5 $folder/out/celebahq.h5 --preset tiny --out $folder/run

Or read the level you need, in any framework:

    from datatools.pyramid import Pyramid
    faces = Pyramid("$folder/out/celebahq.h5")
    batch = faces[128][0:16]        # (16, 3, 128, 128) uint8
TEXT
