# Sourced by the scripts that check a machine with a GPU: `out` is where stages print, `failed` becomes 1 where one fails.

# stage NAME SECONDS COMMAND...: prints the stage's name, how it ended and the last line of what it printed into out/NAME.txt.
stage() {
  local name=$1 limit=$2 start=$SECONDS
  shift 2
  timeout "$limit" "$@" >"$out/$name.txt" 2>&1
  local code=$?
  echo "$name: exit $code, $((SECONDS - start)) s: $(tail -n 1 "$out/$name.txt" | cut -c1-200)"
  [ $code -eq 0 ] || failed=1
}
faultline() { node dist/cli/main.js "$@"; }
export -f faultline
