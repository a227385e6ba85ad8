# .venv from a cache, and into it. To be sourced in the checkout.
#
# An entry is what pip installed for this pyproject.toml, constraints.txt and Python. .venv is a copy, no
# link: what is changed in it stays there.

cache=${XDG_CACHE_HOME:-$HOME/.cache}/microgpt-ci
entry=$cache/$({
    cat pyproject.toml constraints.txt
    python3 -c 'import platform, sys; print(sys.version, sys.base_prefix, platform.machine())'
} | sha256sum | cut -c1-16)

restore() {
    if [ -e .venv ]; then
        echo "the .venv that is here"
        return
    fi
    made_here=yes
    mkdir -p "$cache"
    find "$cache" -mindepth 1 -maxdepth 1 -name '*[0-9a-f]' -mtime +14 -exec rm -rf {} +
    if [ ! -d "$entry" ]; then
        echo "nothing is cached: pip downloads all"
        return
    fi
    touch "$entry"
    cp -a --reflink=auto "$entry/venv" .venv
    # Scripts name the interpreter by its whole path.
    grep -rlIF "$(cat "$entry/origin")" .venv/bin .venv/pyvenv.cfg \
        | xargs -r sed -i "s|$(cat "$entry/origin")|$PWD/.venv|g"
    echo "a copy of $entry"
}

# Keep a .venv that was made here and holds all: pip installs the project last.
keep() {
    [ -n "${made_here:-}" ] && [ ! -d "$entry" ] && [ -x .venv/bin/microgpt ] || return 0
    local new
    new=$(mktemp -d "$cache/new.XXXXXX")
    cp -a --reflink=auto .venv "$new/venv"
    echo "$PWD/.venv" > "$new/origin"
    mv -T "$new" "$entry" 2> /dev/null || rm -rf "$new" # another run was first
}
