# Peal: builds with one plain file, no configure. Needs Debian 12 or alike, gcc 12, Linux 6.1 with io_uring.
#
#   make [all]        build build/peal; missing build libraries are named and installed first
#   make run          build, then serve the demo page (needs nothing but the build libraries)
#   make client       put the Socket.IO client bundles of the npm package into build/client, for client_files
#   make modules      the example modules of tests/modules, into build/modules
#   make install      install into DESTDIR and PREFIX (/usr/local)
#   make test         unit, corpora, models, sim, faults, e2e; then again under sanitizers  (under 20 minutes)
#   make test SAN=address,undefined      the same tests with one sanitizer only (or SAN=thread, or SAN=none)
#   make test SUITES=unit FILTER=ring    some suites only, and of those what matches
#   make unit (corpus, model, sim, fault, e2e)    short for make test SUITES=unit SAN= , without sanitizers
#   make soak         the long tests: large models, long torture, random connections
#   make bench        all bars against bare loops and peers, and build/bench/report.html; never part of test
#   make bench QUICK=1                   the same coarser, in under three minutes; BENCH_ROWS=REGEX: some rows only
#   make lint         layering, lone headers, words, sizes, clang-format, clang-tidy, cppcheck
#   make format       clang-format in place
#   make fuzz         libFuzzer, FUZZ_SECONDS (30) for each target; a crash goes to its corpus
#   make house        the cheap part of lint
#   make deps-build (deps-client, deps-test, deps-bench, deps-lint, deps-fuzz)    install what these targets need and the machine lacks
#   make clean        remove build/
#
# Variables: BUILD (build folder), SAN (sanitizers; own folder below BUILD), CC, CFLAGS, LDFLAGS, DESTDIR, PREFIX,
#            ARGS (more flags for `make run`), V=1 (show commands), DEPS=no (never install anything).

MAKEFLAGS += --no-builtin-rules
.DELETE_ON_ERROR:
.DEFAULT_GOAL := all
SHELL := /bin/bash
comma := ,

BUILD  ?= build
# One name for each file, whoever calls and from where: what depends on what is kept by name.
override BUILD := $(abspath $(BUILD))
PREFIX ?= /usr/local
SAN    ?=
# What `make test` runs; SAN=none asks it for the normal build only.
VARIANTS := $(or $(SAN),none address$(comma)undefined thread)
ifeq ($(SAN),none)
override SAN :=
endif
OUT    := $(BUILD)$(if $(SAN),/san-$(subst $(comma),-,$(SAN)))
DEPS   ?= yes
# What a compile waits for. tests/run has seen to it (DEPS=checked) before it asks make which programs are up to date.
READY  := $(if $(filter checked,$(DEPS)),,deps-build)
FUZZ_SECONDS ?= 30

ifeq ($(V),1)
say =
else
.SILENT:
say = printf '  %-5s %s\n' $(1) $(patsubst $(OUT)/%,%,$(2));
endif

# ---- The layers. One table: what a layer may include is what its unit tests are linked with. ------------------------

LAYERS := base proto shm net session app worker bridge master admin cli

BELOW_base    :=
BELOW_proto   := base
BELOW_shm     := proto base
BELOW_net     := proto base
BELOW_session := shm net proto base
BELOW_app     := session shm net proto base
BELOW_worker  := app session shm net proto base
BELOW_bridge  := app session shm net proto base
BELOW_master  := app session shm net proto base
BELOW_admin   := app session shm net proto base
BELOW_cli     := app session shm net proto base

# ---- Flags ----------------------------------------------------------------------------------------------------------

ifeq ($(origin CC),default)
CC := $(if $(filter fuzz,$(SAN)),clang-14,gcc)
endif
AR ?= ar

WARN := -Wall -Wextra -Werror -Wshadow -Wmissing-prototypes -Wstrict-prototypes -Wold-style-definition -Wconversion \
        -Wno-sign-conversion -Wundef -Wvla -Wpointer-arith -Wwrite-strings -Wformat=2
CPPFLAGS_ALL := -D_GNU_SOURCE -Isrc -Iinclude $(CPPFLAGS)
# Tests and benchmarks have folders of their own for what they share: tests/lib, bench/lib.
CFLAGS_ALL    = -std=gnu17 -g -fno-omit-frame-pointer -fno-strict-aliasing -fstack-protector-strong -fPIE \
                $(OPTIMIZE) $(WARN) $(SAN_FLAGS) $(CFLAGS)
LDFLAGS_ALL   = -pie -Wl,-z,relro,-z,now -Wl,--as-needed $(SAN_FLAGS) $(LDFLAGS)

OPTIMIZE  := -O2
SAN_FLAGS :=
JEMALLOC  := -ljemalloc
ifeq ($(SAN),)
CPPFLAGS_ALL += -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2
else
OPTIMIZE  := -O1
JEMALLOC  :=                                # a sanitizer brings its own allocator
endif
ifeq ($(SAN),fuzz)
SAN_FLAGS := -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
WARN      := -Wall -Wextra -Wno-unknown-warning-option
else ifneq ($(SAN),)
SAN_FLAGS := -fsanitize=$(SAN) -fno-sanitize-recover=all
WARN      += -Wno-error=maybe-uninitialized -Wno-error=stringop-overflow -Wno-error=stringop-overread \
             -Wno-error=array-bounds -Wno-error=format-truncation -Wno-error=format-overflow -Wno-tsan
endif

LIBS = -luring -lwslay -lck -lhiredis -lhttp_parser -lmsgpuck -ljansson -linih -lssl -lcrypto -lz $(JEMALLOC) -lm -lpthread -ldl

# ---- Version: in one object only, so that a commit does not rebuild the house -----------------------------------------

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || cat .version 2>/dev/null || echo unknown)

# $(call remember,FILE,TEXT): FILE holds TEXT, and is touched only when that changes.
remember = $(if $(and $(wildcard $(1)),$(findstring <$(strip $(2))>,<$(file <$(1))>)),,$(shell mkdir -p $(dir $(1)))$(file >$(1),$(strip $(2))))

QUIET_GOALS := help clean client format house deps-%
ifneq ($(filter-out $(QUIET_GOALS),$(or $(MAKECMDGOALS),all)),)
$(call remember,$(OUT)/gen/flags,$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL))
$(call remember,$(OUT)/gen/version,$(VERSION))
$(foreach l,$(LAYERS),$(call remember,$(OUT)/gen/$(l).files,$(sort $(wildcard src/$(l)/*.c src/$(l)/*.html src/$(l)/*.js src/$(l)/*.css))))
endif

# ---- Objects ---------------------------------------------------------------------------------------------------------

ASSET_KINDS := html css js svg
sources  = $(sort $(wildcard src/$(1)/*.c))
assets   = $(sort $(foreach k,$(ASSET_KINDS),$(wildcard src/$(1)/*.$(k))))
objects  = $(patsubst src/%.c,$(OUT)/obj/%.o,$(call sources,$(1))) $(patsubst src/%,$(OUT)/obj/%.o,$(call assets,$(1)))
archives = $(foreach l,$(1) $(BELOW_$(1)),$(OUT)/lib/lib$(l).a)
ALL_ARCHIVES := $(foreach l,cli admin master bridge worker app session net shm proto base,$(OUT)/lib/lib$(l).a)
grouped  = -Wl,--start-group $(1) -Wl,--end-group

compile = $(call say,CC,$@) mkdir -p $(@D) && $(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) -MMD -MP -c $< -o $@
link    = $(call say,LINK,$@) mkdir -p $(@D) && $(CC) $(LDFLAGS_ALL) $(filter %.o,$^) $(call grouped,$(filter %.a,$^)) -o $@

$(OUT)/obj/%.o: src/%.c $(OUT)/gen/flags | $(READY)
	$(compile)

# Text assets: src/admin/index.html becomes `extern const unsigned char asset_index_html[]`, followed by a NUL that
# `extern const unsigned long asset_index_html_size` does not count.
symbol = asset_$(subst -,_,$(subst .,_,$(notdir $(1))))
define asset_rule
$(OUT)/obj/%.$(1).o: src/%.$(1) | $(READY)
	$$(call say,ASSET,$$@) mkdir -p $$(@D) && printf '%s\n' '.section .rodata' \
		'.global $$(call symbol,$$<), $$(call symbol,$$<)_size' '.type $$(call symbol,$$<), @object' \
		'.balign 16' '$$(call symbol,$$<):' '.incbin "$$<"' '1: .byte 0' '.balign 8' \
		'.type $$(call symbol,$$<)_size, @object' '$$(call symbol,$$<)_size: .quad 1b - $$(call symbol,$$<)' \
		'.section .note.GNU-stack,"",@progbits' | $$(CC) -x assembler -c - -o $$@
endef
$(foreach k,$(ASSET_KINDS),$(eval $(call asset_rule,$(k))))

$(OUT)/gen/version.c: $(OUT)/gen/version
	printf '/* Generated. */\nextern const char peal_version[];\nconst char peal_version[] = "%s";\n' "$$(cat $<)" > $@
$(OUT)/obj/version.o: $(OUT)/gen/version.c $(OUT)/gen/flags | $(READY)
	$(compile)

define layer_rules
$(OUT)/lib/lib$(1).a: $(call objects,$(1)) $(OUT)/gen/$(1).files $(if $(filter base,$(1)),$(OUT)/obj/version.o)
	$$(call say,AR,$$@) mkdir -p $$(@D) && rm -f $$@ && $$(AR) rcs $$@ $$(filter %.o,$$^)

$(OUT)/tests/unit/$(1)/test_%: $(OUT)/tests/unit/$(1)/test_%.o $(OUT)/lib/libtest.a $(call archives,$(1))
	$$(link) -lcmocka $$(LIBS)
endef
$(foreach l,$(LAYERS),$(eval $(call layer_rules,$(l))))

# ---- Programs --------------------------------------------------------------------------------------------------------

PEAL := $(if $(wildcard src/main.c),$(OUT)/peal)

# Modules call the server's peal_* functions: all of src/app is linked in, and those names, no others, are exported.
EXPORTS := src/app/module.exports
$(OUT)/peal: $(OUT)/obj/main.o $(ALL_ARCHIVES) $(EXPORTS)
	$(call say,LINK,$@) mkdir -p $(@D) && $(CC) $(LDFLAGS_ALL) -Wl,--dynamic-list=$(EXPORTS) $(filter %.o,$^) \
		-Wl,--whole-archive $(OUT)/lib/libapp.a -Wl,--no-whole-archive $(call grouped,$(filter %.a,$^)) -o $@ $(LIBS)

# Shared test code (tests/lib) is one archive; each other file of these folders is a program of its own.
UNIT  := $(patsubst %.c,$(OUT)/%,$(foreach l,$(LAYERS),$(sort $(wildcard tests/unit/$(l)/test_*.c))))
SIM   := $(patsubst %.c,$(OUT)/%,$(sort $(wildcard tests/sim/*.c)))
FAULT := $(patsubst %.c,$(OUT)/%,$(sort $(wildcard tests/fault/*.c)))
FUZZ  := $(patsubst %.c,$(OUT)/%,$(sort $(wildcard tests/fuzz/fuzz_*.c)))
BENCH := $(patsubst %.c,$(OUT)/%,$(sort $(wildcard bench/*.c)))
MODULES := $(patsubst tests/modules/%.c,$(OUT)/modules/%.so,$(sort $(wildcard tests/modules/*.c)))

TEST_LIB  := $(patsubst %.c,$(OUT)/%.o,$(sort $(wildcard tests/lib/*.c)))
BENCH_LIB := $(patsubst %.c,$(OUT)/%.o,$(sort $(wildcard bench/lib/*.c)))

$(OUT)/tests/%.o: CPPFLAGS_ALL += -Itests
# Tests do little work themselves: what their compiling costs is what counts. (The normal build keeps the warnings that want an optimizer.)
$(OUT)/tests/%.o: OPTIMIZE := $(if $(SAN),-O0,-O1)
$(OUT)/bench/%.o: CPPFLAGS_ALL += -Ibench
$(OUT)/tests/%.o: tests/%.c $(OUT)/gen/flags | $(READY)
	$(compile)
$(OUT)/bench/%.o: bench/%.c $(OUT)/gen/flags | $(READY)
	$(compile)
$(OUT)/lib/libtest.a: $(TEST_LIB)
	mkdir -p $(@D) && rm -f $@ && $(AR) rcs $@ $^
$(OUT)/lib/libbench.a: $(BENCH_LIB)
	mkdir -p $(@D) && rm -f $@ && $(AR) rcs $@ $^
$(SIM) $(FAULT): $(OUT)/%: $(OUT)/%.o $(OUT)/lib/libtest.a $(ALL_ARCHIVES)
	$(link) -lcmocka $(LIBS)
$(BENCH): $(OUT)/%: $(OUT)/%.o $(OUT)/lib/libbench.a $(ALL_ARCHIVES)
	$(link) $(LIBS)
# A module needs peal/app.h and nothing else of ours; what it calls is the server's. The examples are built as a user would build them, with our warnings.
$(MODULES): $(OUT)/modules/%.so: tests/modules/%.c $(OUT)/gen/flags | $(READY)
	$(call say,LINK,$@) mkdir -p $(@D) && \
		$(CC) -Iinclude $(CFLAGS_ALL) -fPIC -shared -MMD -MP -MF $(@:.so=.d) $< -o $@ -lpthread

# A fuzz target is a libFuzzer program under SAN=fuzz, and replays its corpus everywhere else.
ifeq ($(SAN),fuzz)
$(FUZZ): $(OUT)/%: $(OUT)/%.o $(ALL_ARCHIVES)
	$(link) -fsanitize=fuzzer $(LIBS)
else
$(FUZZ): $(OUT)/%: $(OUT)/%.o $(OUT)/tests/fuzz/replay.o $(ALL_ARCHIVES)
	$(link) $(LIBS)
endif

# ---- Targets ---------------------------------------------------------------------------------------------------------

.PHONY: all modules programs peal-program bench-programs fuzz-programs run client install test soak bench lint format fuzz clean help FORCE
all: $(READY) $(PEAL)
modules: $(READY) $(MODULES)
peal-program: $(PEAL) $(MODULES)
programs: peal-program $(UNIT) $(FUZZ) $(SIM) $(FAULT)
bench-programs: $(PEAL) $(BENCH)
fuzz-programs: $(FUZZ)

export BUILD DEPS
DEPS_TARGETS := deps-build deps-client deps-unit deps-model deps-e2e deps-test deps-bench deps-lint deps-fuzz
.PHONY: $(DEPS_TARGETS)
$(DEPS_TARGETS): deps-%:
	.ci/deps $*

run: all
	echo 'Peal will say event=ready; then open http://localhost:3000/ in two windows. Counters: http://localhost:9300/metrics'
	exec $(OUT)/peal serve --demo=yes $(ARGS)

# A copy that fails leaves the folder as it was.
client: deps-client
	rm -rf $(BUILD)/client.new && mkdir -p $(BUILD)/client.new
	cp tests/node_modules/socket.io/client-dist/socket.io{,.min,.esm.min,.msgpack.min}.js{,.map} $(BUILD)/client.new/
	rm -rf $(BUILD)/client && mv $(BUILD)/client.new $(BUILD)/client
	echo "$(BUILD)/client: Socket.IO client $$(sed -n 's/^  "version": "\(.*\)",/\1/p' tests/node_modules/socket.io/package.json)"

install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/include/peal
	install -m 755 $(OUT)/peal $(DESTDIR)$(PREFIX)/bin/peal
	install -m 644 $(wildcard include/peal/*.h) $(DESTDIR)$(PREFIX)/include/peal/
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system $(DESTDIR)$(PREFIX)/share/peal
	sed 's|/usr/local/bin/peal|$(PREFIX)/bin/peal|' deploy/systemd/peal.service > $(DESTDIR)$(PREFIX)/lib/systemd/system/peal.service
	chmod 644 $(DESTDIR)$(PREFIX)/lib/systemd/system/peal.service
	install -m 644 deploy/peal.ini $(DESTDIR)$(PREFIX)/share/peal/

# tests/run builds each variant itself, and adds all of them up in its last line.
SUITE_NAMES := unit corpus house model sim fault e2e
SUITES ?= $(SUITE_NAMES)
FILTER ?=
NEEDS = unit $(if $(filter model,$(1)),model) $(if $(filter e2e,$(1)),e2e)
tests_run = .ci/deps build $(call NEEDS,$(1)) && MAKE='$(MAKE)' CC='$(CC)' tests/run $(2) \
            --suites='$(1)' --variants='$(VARIANTS)' --filter='$(FILTER)'

test:
	$(call tests_run,$(SUITES))
soak:
	$(call tests_run,$(SUITES),--soak)
.PHONY: $(SUITE_NAMES)
$(filter-out house,$(SUITE_NAMES)): VARIANTS := $(or $(SAN),none)
$(filter-out house,$(SUITE_NAMES)):
	$(call tests_run,$@)

# The grid of bench/compare.mjs, as a table, as results.json, and as a page. QUICK=1: coarse, in under three minutes. BENCH_ROWS: some rows only.
BENCH_ROWS ?= .*
bench: deps-bench
	$(MAKE) --no-print-directory bench-programs modules
	status=0; bench/compare.mjs $(if $(QUICK),--quick) --rows='$(BENCH_ROWS)' --bin=$(OUT)/bench --out=$(BUILD)/bench/results.json || status=$$?; \
		bench/report.mjs $(BUILD)/bench/results.json --html=$(BUILD)/bench/report.html; exit $$status

lint: deps-build deps-unit deps-lint
	$(MAKE) --no-print-directory $(OUT)/gen/version.c
	.ci/lint all
house:
	.ci/lint house

C_FILES = $(shell find src include tests bench -name node_modules -prune -o -name '*.[ch]' -print)
format: deps-lint
	clang-format-14 -i $(C_FILES)

fuzz: deps-fuzz
	$(MAKE) --no-print-directory SAN=fuzz CC=clang-14 fuzz-programs
	.ci/fuzz $(FUZZ_SECONDS) $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/fuzz_*.c))

clean:
	rm -rf $(BUILD)

help:
	awk '!/^#/ { exit } { sub(/^# ?/, ""); print }' $(firstword $(MAKEFILE_LIST))

export LAYERS
$(foreach l,$(LAYERS),$(eval export BELOW_$(l)))

.SECONDARY:
-include $(if $(filter-out $(QUIET_GOALS),$(or $(MAKECMDGOALS),all)),$(shell find $(OUT)/obj $(OUT)/tests $(OUT)/bench $(OUT)/modules -name '*.d' 2>/dev/null))
