#!/usr/bin/env bash
# Installs the desktop files into a directory of its own and asks each of their readers what
# it makes of a .siren file. Takes the binary to make thumbnails with, of `cargo build
# --release` unless named.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
sirenc=$(realpath "${1:-$here/../target/release/sirenc}")
sample=$(realpath "$here/../samples/coffee.siren")

for tool in file xdg-mime mimetype gio update-mime-database; do
    command -v "$tool" >/dev/null || { echo "$tool is not installed" >&2; exit 1; }
done

work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
mkdir "$work/home" "$work/bin"
ln -s "$sirenc" "$work/bin/sirenc"
export HOME=$work/home XDG_DATA_HOME=$work/home/.local/share
export XDG_DATA_DIRS=/usr/local/share:/usr/share PATH=$work/bin:$PATH
# Without a desktop xdg-mime asks mimetype(1), which reads the installed types.
unset XDG_CURRENT_DESKTOP DESKTOP_SESSION KDE_FULL_SESSION GNOME_DESKTOP_SESSION_ID MAGIC

expect() { # WHAT WANTED FOUND
    if [[ $3 != *"$2"* ]]; then
        printf '%s: expected %q, found %q\n' "$1" "$2" "$3" >&2
        exit 1
    fi
}

ask() { # WANTED: by name and content, by content alone, by name alone
    cp "$sample" "$work/a picture.siren"
    cp "$sample" "$work/nameless"
    echo "no picture" >"$work/text.siren"
    expect "xdg-mime, whole file" "$1" "$(xdg-mime query filetype "$work/a picture.siren")"
    expect "mimetype, by content" "$1" "$(mimetype --brief --magic-only "$work/nameless")"
    for name in "a picture.siren" nameless text.siren; do
        expect "gio, $name" "$1" "$(gio info -a standard::content-type "$work/$name")"
    done
}

"$here/install.sh"
ask image/x-siren
expect "gio's icon" image-x-generic "$(gio info -a standard::icon "$work/nameless")"
expect "file's type" image/x-siren "$(file --brief --mime-type "$work/nameless")"
expect "file" "SIREN picture, version 1, one network, RGB, 8 bits, 600 x 400" \
    "$(file --brief "$work/nameless")"
expect "file, small picture" "grey and alpha, 8 bits, 16 x 9" \
    "$(file --brief "$here/../spec/conformance/grey-alpha.siren")"
expect "file, size of one and two bytes" "latent grids, RGB, 8 bits, 600 x 9" \
    "$(file --brief "$here/../spec/conformance/grid-tiles.siren")"
expect "file, size of two bytes and one" "latent grids, RGB, 8 bits, 3 x 600" \
    "$(file --brief "$here/../spec/conformance/grid-deep.siren")"

# As a file manager does it: the words of Exec, with its names in place of the codes.
entry=$XDG_DATA_HOME/thumbnailers/sirenc.thumbnailer
expect "the thumbnailer's types" "image/x-siren;" "$(sed -n 's/^MimeType=//p' "$entry")"
command -v "$(sed -n 's/^TryExec=//p' "$entry")" >/dev/null
read -ra words < <(sed -n 's/^Exec=//p' "$entry")
for i in "${!words[@]}"; do
    case ${words[i]} in
    %s) words[i]=128 ;;
    %i) words[i]="$work/a picture.siren" ;;
    %o) words[i]="$work/thumbnail.XYZ" ;;
    esac
done
touch "$work/thumbnail.XYZ" # made beforehand
said=$("${words[@]}" 2>&1) || said="failed: $said"
[[ -z $said ]] || { echo "the thumbnailer said: $said" >&2; exit 1; }
expect "the thumbnail" "PNG image data, 128 x 85, 8-bit/color RGB" \
    "$(file --brief "$work/thumbnail.XYZ")"

"$here/install.sh" >/dev/null # once more over itself
"$here/install.sh" --uninstall
[[ ! -e $HOME/.magic && ! -L $HOME/.magic ]]
left=$(grep -rl siren "$HOME" || true)
[[ -z $left ]] || { echo "left after --uninstall: $left" >&2; exit 1; }

export XDG_DATA_DIRS=$work/prefix/share:$XDG_DATA_DIRS
"$here/install.sh" --prefix "$work/prefix" >/dev/null
ask image/x-siren
"$here/install.sh" --prefix "$work/prefix" --uninstall
left=$(grep -rl siren "$work/prefix" || true)
[[ -z $left ]] || { echo "left after --uninstall: $left" >&2; exit 1; }
