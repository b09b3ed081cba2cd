#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# The first process of the image "nginx": runs what lies in /docker-entrypoint.d, then what it was given.
set -e

if [ "$1" = nginx ]; then
    for file in /docker-entrypoint.d/*.sh; do
        [ ! -x "$file" ] || "$file"
    done
    echo "$0: Configuration complete; ready for start up"
fi
exec "$@"
