#!/usr/bin/env bash
# Formats every file that the `lint` part of .ci/run looks at; needs the tools of .ci/lint-requirements.txt.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

ruff check --fix --quiet . || true # what is left is for a person
ruff format --quiet .
git ls-files -z --cached --others --exclude-standard '*.h' '*.cpp' | xargs -0 clang-format -i
