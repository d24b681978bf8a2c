#!/bin/sh
# What the demo has made in $1, and what to do with it.
cat <<TEXT

The report:    $1/report/index.html   (open it in a browser)
The data set:  $1/celebahq.h5
               python -m datatools.h5tool inspect $1/celebahq.h5

To train on it, read the level you need, in any framework:

    from datatools.pyramid import Pyramid
    faces = Pyramid("$1/celebahq.h5")
    batch = faces[128][0:16]        # (16, 3, 128, 128) uint8
TEXT
