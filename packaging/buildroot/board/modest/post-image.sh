#!/usr/bin/env bash
# Makes images/modest.cpio: an initramfs with modest as its init and modules of the target. Buildroot passes folders,
# package/modest/modest.mk the options of the configuration.
set -euo pipefail

if [[ -z ${MODEST_IMAGE_BOARD-} ]]; then
    echo "${0##*/}: BR2_PACKAGE_MODEST_INITRAMFS is off, or BR2_PACKAGE_MODEST_BOARD is empty" >&2
    exit 1
fi
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
export MODEST_BOARDS=$HOST_DIR/share/modest/boards
board=$MODEST_IMAGE_BOARD options=()

if [[ -n ${MODEST_IMAGE_MANIFEST-} ]]; then
    manifest=$MODEST_IMAGE_MANIFEST
    if [[ -n ${MODEST_IMAGE_BUDGET-} ]]; then
        manifest=$tmp/$(basename "$MODEST_IMAGE_MANIFEST")
        { echo "@budget $MODEST_IMAGE_BUDGET" && cat "$MODEST_IMAGE_MANIFEST"; } >"$manifest"
    fi
    options+=(--manifest "$manifest")
elif [[ -n ${MODEST_IMAGE_BUDGET-} ]]; then
    file=$board
    [[ $file == *.toml ]] || file=$MODEST_BOARDS/$board.toml
    board=$tmp/$(basename "$file")
    { echo "budget = \"$MODEST_IMAGE_BUDGET\"" && sed '/^budget *=/d' "$file"; } >"$board"
fi
[[ ! -f ${MODEST_IMAGE_SYMBOLS-} ]] || options+=(--symbols "$MODEST_IMAGE_SYMBOLS")
# shellcheck disable=SC2206 # words of their own
options+=(${MODEST_IMAGE_OPTS-})

"$HOST_DIR/bin/mkmodest" image "$board" --init "$MODEST_IMAGE_INIT" --kernel-modules "$MODEST_IMAGE_MODULES" \
    --output "$BINARIES_DIR/modest.cpio" "${options[@]}"
