#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# The first process of the image "redis": options and files of settings are for the server, which does not run as root.
set -e

case $1 in -* | *.conf) set -- redis-server "$@" ;; esac
if [ "$1" = redis-server ] && [ "$(id -u)" = 0 ]; then
    find . \! -user redis -exec chown redis {} +
    exec setpriv --reuid=redis --regid=redis --clear-groups -- "$0" "$@"
fi
umask 0077
exec "$@"
