# Live comparison with the original: its own environment, with torch from the CPU wheel first.
source .ci/lib.sh

built_wheel
environment parity
# Before the original, which would take the newest torch with gigabytes of GPU libraries.
pip install -qq torch==2.13.0
pip install -qq pocket-tts==4.0.1
pip install -qq "$WHEEL[test]" soundfile scipy
cd "$SOURCE"
suite parity pytest -m parity tests/parity
fact "against pocket-tts $(pip show pocket-tts | sed -n 's/^Version: //p'), torch $(pip show torch | sed -n 's/^Version: //p'): $SUMMARY"
