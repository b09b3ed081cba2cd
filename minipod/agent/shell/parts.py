# SPDX-License-Identifier: GPL-3.0-or-later
"""The fixed parts of a script: what its steps are made of, how it begins, and how it takes everything down."""

from __future__ import annotations

CLOSE = r"""
# No fd of whoever starts this reaches a container.
for fd in /proc/self/fd/*; do
  fd=${fd##*/}
  if [ "$fd" -gt 2 ] && [ "$fd" -lt 255 ]; then eval "exec $fd>&-"; fi
done
"""

COMMON = r"""
die() {
  printf '%s: %s\n' "${SELF##*/}" "$*" >&2
  exit 1
}
"""

HELPERS = r"""
# ---- what the steps are made of ----------------------------------------------------------------------------

# inside ROOT PATH [strict]: where PATH is, seen from ROOT, in $REPLY. Symbolic links on the way are followed as
# if ROOT were /, so that none leads out; with strict there must be none.
inside() {
  local root=$1 rest=$2 strict=${3-} at='' part link count=0
  while [ -n "$rest" ]; do
    part=${rest%%/*}
    if [ "$part" = "$rest" ]; then rest=''; else rest=${rest#*/}; fi
    case $part in
      '' | .) continue ;;
      ..) at=${at%/*} && continue ;;
    esac
    if [ ! -L "$root$at/$part" ]; then
      at=$at/$part
      continue
    fi
    [ -z "$strict" ] || die "$2: the image has a symbolic link on the way"
    count=$((count + 1))
    [ "$count" -le 40 ] || die "$2: too many symbolic links"
    link=$(readlink -n -- "$root$at/$part" && printf /)
    case $link in /*) at='' ;; esac
    rest=$link$rest
  done
  REPLY=$root$at
}

# park SLOT [file]: a place for a mount that is not yet where it belongs: the path in $sSLOT
park() {
  local place="$M/$1${2:+.$2}"
  if [ -n "${2-}" ]; then : >"$place"; else mkdir -p "$place"; fi
  export "s${1%%.*}=$place"
}

# within SLOT PATH BIND: of the volume in $sSLOT, take the path in it instead
within() {
  local slot="s$1" whole found mask
  whole=${!slot}
  inside "$whole" "$2"
  found=$REPLY
  # What is missing is made with the mode of the volume's root.
  mask=$(printf '%04o' $((0777 & ~0$(stat -c %a "$whole"))))
  [ -e "$found" ] || (umask "$mask" && mkdir -p "$found")
  if [ -d "$found" ]; then park "$1.in"; else park "$1.in" file; fi
  mount "$3" "$found" "${!slot}"
  umount -l "$whole"
}

# attach SLOT ROOT PATH CREATE [strict]: move what is parked to PATH below ROOT
attach() {
  local slot="s$1" create=$4 parent
  local from=${!slot}
  if [ "$create" = same ]; then
    if [ -d "$from" ]; then create="directory"; else create="file"; fi
  fi
  inside "$2" "$3" "${5-}"
  if [ "$create" = directory ] && [ ! -e "$REPLY" ]; then
    (umask 022 && mkdir -p "$REPLY")
  elif [ "$create" = file ] && [ ! -e "$REPLY" ]; then
    inside "$2" "${3%/*}" "${5-}"
    parent=$REPLY
    # A link that leads nowhere gives way.
    REPLY=$parent/${3##*/}
    (umask 022 && mkdir -p "$parent" && rm -f "$REPLY" && : >"$REPLY")
  fi
  [ "$(stat -f -c %T "$REPLY")" != proc ] || die "$3: nothing is mounted on procfs"
  mount --move "$from" "$REPLY"
  export "$slot=$REPLY"
}

# reflag_all PLACE FLAG: for a mount and all below it
reflag_all() {
  local each
  findmnt -rno TARGET -R "$1" | while read -r each; do
    mount -o "remount,bind,$2" "$(printf '%b' "$each")"
  done
}

# mask ROOT PATH...: the null device over files, an empty directory over directories; what is not there is skipped
mask() {
  local root=$1 path
  shift
  [ "$(stat -c %F:%t:%T "$root/dev/null")" = 'character special file:1:3' ] || die "no /dev/null to mask with"
  for path; do
    inside "$root" "$path" strict
    if [ -d "$REPLY" ]; then
      mount -t tmpfs -o nosuid,nodev,noexec,mode=0555,nr_inodes=2 none "$REPLY"
      mount -o remount,bind,ro,nosuid,nodev,noexec "$REPLY"
    elif [ -e "$REPLY" ]; then
      mount --bind "$root/dev/null" "$REPLY"
    fi
  done
}

# protect ROOT PATH...: make them read-only
protect() {
  local root=$1 path
  shift
  for path; do
    inside "$root" "$path" strict
    [ -e "$REPLY" ] || continue
    mount --rbind "$REPLY" "$REPLY"
    reflag_all "$REPLY" ro
  done
}

# check TYPE PATH
check() {
  case $1 in
    directory) [ -d "$2" ] ;;
    file) [ -f "$2" ] ;;
    socket) [ -S "$2" ] ;;
    block) [ -b "$2" ] ;;
    char) [ -c "$2" ] ;;
    *) [ -e "$2" ] ;;
  esac || die "$2: not there, or not of type $1"
}

# stack LAYER...: $LAYERS, a directory, and $LOWER, what lies in it for an overlay of these layers, the top first
stack() {
  local IFS=:
  if [ -d "$STATE/images" ]; then
    LAYERS=$STATE/images LOWER=$(layers_name "$@")
  else
    LAYERS=$STORE LOWER=$*
  fi
}

layers_name() {
  printf '%s ' "$@" | sha256sum | cut -c 1-64
}

# cgroup HIERARCHY PATH [CONTROLLER...]: make it, and hand the controllers down where that has to be said
cgroup() {
  local top=$1 at='' part rest=$2/ controller
  shift 2
  while [ -n "$rest" ]; do
    part=${rest%%/*} rest=${rest#*/}
    if [ -e "$top$at/cgroup.subtree_control" ]; then
      for controller; do
        if grep -qw "$controller" "$top$at/cgroup.controllers"; then
          echo "+$controller" >"$top$at/cgroup.subtree_control"
        fi
      done
    fi
    at=$at/$part
    [ -d "$top$at" ] || mkdir -m 0755 "$top$at"
  done
}

no_ipv6() {
  local name
  for name in "disable_ipv6 1" "accept_ra 0"; do
    [ ! -e "/proc/sys/net/ipv6/conf/$1" ] || echo "${name#* }" >"/proc/sys/net/ipv6/conf/$1/${name% *}"
  done
}

uplink_mtu() {
  local device
  device=$(ip -4 -o route show default | sed -n 's/.* dev \([^ ]*\).*/\1/p' | head -n 1)
  cat "/sys/class/net/${device:-none}/mtu" 2>/dev/null || echo 1500
}

# ---- processes ---------------------------------------------------------------------------------------------

# launch NAME LOG COMMAND...: start a process by its functions; return when it waits to become its program
launch() {
  local here
  NAME=$1 LOG=$2
  shift 2
  M=$RUN/mounts/$NAME own=''
  export NAME LOG M own
  mkdir -p "$M"
  mkfifo -m 0600 "$RUN/$NAME.go" "$RUN/$NAME.here"
  exec {here}<>"$RUN/$NAME.here"
  "$@" "$BASH" "$SELF" "${NAME}_0" </dev/null >>"$LOG" 2>&1 {here}>&- &
  CHILD=$!
  until read -r -t 1 _ <&"$here"; do
    kill -0 "$CHILD" 2>/dev/null || die "$NAME could not be started: $(tail -n 5 "$LOG")"
  done
  exec {here}>&-
}

# ready: in that process: all is done but what needs no program of the host
ready() {
  local pid
  read -r pid _ </proc/self/stat
  printf '%s\n' "$pid" >"$RUN/$NAME.pid"
  printf '%s\n' "$ROOT" >"$RUN/$NAME.root"
  exec 8>"$RUN/$NAME.here" 9<>"$RUN/$NAME.go"
  cd "$TOOLS"
}

# release NAME: give the process its root (pivot_root), cut the host's off, and let it become its program. Both from
# outside, by programs of the host: nothing of the container's files is executed or read with privileges.
release() {
  local pid root
  pid=$(<"$RUN/$1.pid") root=$(<"$RUN/$1.root")
  nsenter --mount="/proc/$pid/ns/mnt" -- "$BASH" -c 'cd "$1" && exec pivot_root . .' "$BASH" "$root"
  nsenter --mount="/proc/$pid/ns/mnt" --root=/ -- umount -l -c "/proc/$pid/root"
  echo go >"$RUN/$1.go"
}

# finish NAME: wait for the end of an init container
finish() {
  wait "$CHILD" || die "init container $1 has failed with $?: $(tail -n 5 "$LOG")"
}

# tools: env(1) with its libraries in a small filesystem of their own, which a process still has when its root is
# the container's: it becomes the container's program through it, and it is gone.
tools() {
  local program file
  umask 022
  program=$(command -v env)
  mkdir -p "$TOOLS"
  mount -t tmpfs -o mode=0755,size=16m,nosuid,nodev tmpfs "$TOOLS"
  cp -L "$program" "$TOOLS/env"
  ldd "$program" | sed -n 's|^[^/]*\(/[^ ]*\).*|\1|p' | while read -r file; do
    case $file in
      */ld-*) cp -L "$file" "$TOOLS/ld" ;;
      *) cp -L "$file" "$TOOLS" ;;
    esac
  done
  mount -o remount,bind,ro,nosuid,nodev "$TOOLS"
  umask 077
}

# ---- images ------------------------------------------------------------------------------------------------

# unpack ARCHIVE LAYER...: layers of an archive of "minipod image save", the top first, into one directory
unpack() {
  local archive=$1 top layer directory name number
  shift
  directory=$STATE/images/$(layers_name "$@")
  [ ! -d "$directory" ] || return 0
  top=$directory/.minipod-script
  (umask 022 && mkdir -p "$directory")
  for ((number = $#; number > 0; number--)); do
    layer=${!number}
    tar -xOf "$archive" "$layer.tar" >"$STATE/layer.tar" 2>/dev/null ||
      tar -xOf "$archive" "blobs/sha256/$layer" >"$STATE/layer.tar" 2>/dev/null ||
      die "$archive has no layer $layer: use minipod image save --format docker-archive"
    echo "$layer  $STATE/layer.tar" | sha256sum --check --status || die "layer $layer is not what it should be"
    tar -tf "$STATE/layer.tar" --quoting-style=escape | { grep -E '(^|/)\.wh\.' || :; } | while read -r name; do
      name=$(printf '%b' "${name%/}")
      inside "$directory" "${name%"${name##*/}"}"
      name=${name##*/}
      case $name in
        .wh..wh..opq) find "$REPLY" -mindepth 1 -delete ;;
        .wh.) die "layer $layer has a whiteout without a name" ;;
        *) rm -rf --one-file-system -- "${REPLY:?}/${name#.wh.}" ;;
      esac
    done
    # In a root of its own, and without mknod: what a layer says stays in its directory.
    mkdir "$top" "$top.lib"
    mount -t tmpfs -o mode=0755,size=32m,nosuid,nodev tmpfs "$top"
    cp -L "$(command -v tar)" "$top/tar"
    ldd "$(command -v tar)" | sed -n 's|^[^/]*\(/[^ ]*\).*|\1|p' | while read -r name; do
      case $name in */ld-*) cp -L "$name" "$top/ld" ;; *) cp -L "$name" "$top" ;; esac
    done
    mount -o remount,ro "$top"
    rmdir "$top.lib"
    setpriv --bounding-set=-mknod --inh-caps=-mknod chroot "$directory" /.minipod-script/ld \
      --library-path /.minipod-script /.minipod-script/tar --extract --file=- --directory=/ --numeric-owner \
      --same-owner --same-permissions --xattrs '--xattrs-include=*' '--exclude=.wh.*' <"$STATE/layer.tar" ||
      die "layer $layer cannot be unpacked"
    umount "$top"
    rmdir "$top"
  done
  rm -f "$STATE/layer.tar"
}
"""

TEARDOWN = r"""
# ---- taking it down ----------------------------------------------------------------------------------------

members() {
  local top
  for top in "${HIERARCHIES[@]}"; do
    [ ! -d "$top/$CGROUP" ] || find "$top/$CGROUP" -name cgroup.procs -exec cat {} + 2>/dev/null
  done | sort -u
}

teardown() {
  set +e
  local pids top
  trap - EXIT
  while pids=$(members) && [ -n "$pids" ]; do
    # shellcheck disable=SC2086 # numbers
    kill -KILL $pids 2>/dev/null
    sleep 0.05
  done
  if [ -n "$BRIDGE" ]; then
    ip link delete "$LINK" 2>/dev/null
    ip link delete "$BRIDGE" 2>/dev/null
    nft delete table inet "$TABLE" 2>/dev/null
    nft delete table bridge "$TABLE" 2>/dev/null
  fi
  for top in "${HIERARCHIES[@]}"; do
    [ ! -d "$top/$CGROUP" ] || find "$top/$CGROUP" -depth -type d -exec rmdir {} \;
  done
  rm -rf --one-file-system -- "$RUN" "$STATE" "$LOGS"
  # shellcheck disable=SC2086 # two words
  rmdir "${RUN%/*}" "${STATE%/*}" "${LOGS%/*}" 2>/dev/null
  set -e
  [ ! -e "$RUN" ] && [ ! -e "$STATE" ] && [ ! -e "$LOGS" ]
}
"""
