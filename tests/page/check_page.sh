#!/bin/sh
# Opens each viewer page in a headless Chromium, lets it test itself (page.html?selftest) in windows of a desktop, a small
# screen and a phone, prints one line a page and window.
#   tests/page/check_page.sh PAGE.html...
# CHROMIUM names the browser; exit status 0 all pass, 1 one failed, 77 no browser here.
for name in "$CHROMIUM" chromium chromium-browser google-chrome; do
    [ -n "$name" ] && browser=$(command -v "$name") && break
done
[ -n "$browser" ] || { echo "no Chromium here; set CHROMIUM or install one (apt-get install chromium)"; exit 77; }
profile=$(mktemp -d) || exit 1
trap 'rm -rf "$profile"' EXIT
status=0
for page in "$@"; do
    path=$(realpath "$page") || { status=1; continue; }
    for window in 1400,800 800,600 390,844; do
        title=$(timeout 180 "$browser" --headless --no-sandbox --disable-gpu --user-data-dir="$profile" \
            --window-size=$window --virtual-time-budget=60000 --dump-dom "file://$path?selftest" 2>/dev/null |
            sed -n 's/.*<title>\(.*\)<\/title>.*/\1/p' | head -n 1)
        echo "$page in $window: ${title:-no answer}"
        [ "$title" = PASS ] || status=1
    done
done
exit $status
