# A thin front: CMake is the truth.
# The programs are linked as bin/NAME and, where no source folder has that name, as ./NAME.
PRESET ?= release

.PHONY: build programs demo test asan tsan check-gpu setup setup-tests clean configure
build: programs         ## builds everything, the tests too
	@cmake --build --preset $(PRESET)

programs: setup configure ## builds the programs, a quarter of everything, and links them into this folder
	@cmake --build --preset $(PRESET) --target programs
	@mkdir -p bin
	@for p in build/$(PRESET)/bin/*; do ln -sfn ../$$p bin/; n=$$(basename $$p); [ -d $$n ] || ln -sfn $$p $$n; done

setup:                  ## installs what is missing
	@tools/setup.sh

configure: setup
	@test -f build/$(PRESET)/build.ninja || cmake --preset $(PRESET) >/dev/null

demo: programs          ## a motion, out of the box
	./generate "a person jumps"

test: setup-tests build ## builds and passes every test
	@tests/run.sh $(PRESET)

setup-tests:
	@tools/setup.sh tests

# The sanitizer builds leave out what has no memory of its own to prove (the programs), and what has no threads of its own:
# all of them are the pool's, which the kernels and the tape drive, and under the emulation CUDA's (a missing barrier is a race).
asan:                   ## the tests under AddressSanitizer and UBSan
	@$(MAKE) --no-print-directory sanitized PRESET=asan FOLDERS="kernels tensor autograd nn motion models train fuzz"

tsan:                   ## the tests of what runs on threads under ThreadSanitizer
	@$(MAKE) --no-print-directory sanitized PRESET=tsan FOLDERS="kernels autograd simt"

.PHONY: sanitized
sanitized: setup configure
	@cmake --build --preset $(PRESET) --target $(addprefix test_,$(FOLDERS))
	@tests/run.sh $(PRESET) $(FOLDERS)

# Not part of the tests: those run the seeds and simple damage to them (tests/fuzz/fuzz_test.cpp).
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?=
.PHONY: fuzz
fuzz:                   ## libFuzzer (clang) on every reader, FUZZ_SECONDS each; FUZZ_TARGETS="zip bvh" for some, FUZZ_RUNS=1000000 for that many runs
	@tools/setup.sh fuzz
	@test -f build/fuzz/build.ninja || cmake --preset fuzz >/dev/null
	@cmake --build --preset fuzz --target fuzzers
	@tests/fuzz/run.sh $(FUZZ_SECONDS) $(FUZZ_TARGETS)

check-gpu: setup-tests setup configure  ## every CUDA kernel on this machine's GPU; the report is check-gpu.txt
	@tests/check_gpu.sh $(PRESET)

clean:
	rm -rf build bin
