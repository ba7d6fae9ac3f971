#!/bin/sh
# Makes a Linux desktop know .siren files: MIME type, thumbnails, file(1).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
usage='usage: desktop/install.sh [--prefix DIR] [--uninstall]
DIR is ~/.local by default; /usr/local, as root, is for all users.'

prefix=$HOME/.local
action=install
while [ $# -gt 0 ]; do
    case $1 in
    --prefix)
        [ $# -gt 1 ] && [ -n "$2" ] || { echo "$usage" >&2; exit 2; }
        prefix=$2
        shift
        ;;
    --uninstall) action=uninstall ;;
    -h | --help) echo "$usage"; exit ;;
    *) echo "$usage" >&2; exit 2 ;;
    esac
    shift
done
case $prefix in /*) ;; *) prefix=$PWD/$prefix ;; esac

share=$prefix/share
# Where the desktop looks for data of the user alone may have been moved.
[ "$prefix" = "$HOME/.local" ] && share=${XDG_DATA_HOME:-$share}
mime=$share/mime
magic=$share/misc/siren.magic

command -v update-mime-database >/dev/null || {
    echo "update-mime-database is not installed; it comes with shared-mime-info" >&2
    exit 1
}

# file(1) reads ~/.magic besides its own; one that is there already stays as it is.
personal() { [ "$prefix" = "$HOME/.local" ]; }
linked() { [ "$(readlink "$HOME/.magic")" = "$magic" ]; }

if [ $action = install ]; then
    mkdir -p "$mime/packages" "$share/thumbnailers" "$share/misc"
    install -m 644 "$here/sirenc.xml" "$mime/packages/"
    install -m 644 "$here/sirenc.thumbnailer" "$share/thumbnailers/"
    install -m 644 "$here/siren.magic" "$magic"
    if personal && [ ! -e "$HOME/.magic" ] && [ ! -L "$HOME/.magic" ]; then
        ln -s "$magic" "$HOME/.magic"
    elif ! { personal && linked; }; then
        echo "for file(1), append $magic to ~/.magic or /etc/magic"
    fi
else
    rm -f "$mime/packages/sirenc.xml" "$share/thumbnailers/sirenc.thumbnailer" "$magic"
    if personal && linked; then rm "$HOME/.magic"; fi
    mkdir -p "$mime/packages"
fi
update-mime-database "$mime"
