# A thin front: CMake is the truth.
# The programs are linked as bin/NAME and, where no source folder has that name, as ./NAME.
PRESET ?= release

.PHONY: build demo test asan tsan setup clean
build: setup            ## builds everything and links the programs into this folder
	@test -f build/$(PRESET)/build.ninja || cmake --preset $(PRESET) >/dev/null
	@cmake --build --preset $(PRESET)
ifeq ($(PRESET),release)
	@mkdir -p bin
	@for p in build/release/bin/*; do ln -sfn ../$$p bin/; n=$$(basename $$p); [ -d $$n ] || ln -sfn $$p $$n; done
endif

setup:                  ## installs what is missing
	@tools/setup.sh

demo: build             ## a motion, out of the box
	./generate "a person jumps"

test: build             ## builds and passes every test
	@ctest --test-dir build/$(PRESET) --output-on-failure

asan:                   ## the tests under AddressSanitizer and UBSan
	@$(MAKE) test PRESET=asan

tsan:                   ## the tests under ThreadSanitizer
	@$(MAKE) test PRESET=tsan

clean:
	rm -rf build
