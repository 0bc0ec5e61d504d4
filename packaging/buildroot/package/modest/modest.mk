################################################################################
#
# modest
#
################################################################################

MODEST_VERSION = 0.1.0
MODEST_SITE = $(call qstrip,$(BR2_PACKAGE_MODEST_SITE))
# Otherwise Buildroot would ask the site for a file with its mark of vendored crates in the name.
# check-package RemoveDefaultPackageSourceVariable
MODEST_SOURCE = modest-$(MODEST_VERSION).tar.gz
MODEST_LICENSE = Apache-2.0 or MIT
MODEST_LICENSE_FILES = LICENSE-APACHE LICENSE-MIT

MODEST_FEATURES = $(strip \
	$(foreach f,gzip xz zstd names explain, \
		$(if $(BR2_PACKAGE_MODEST_$(call UPPERCASE,$(f))),$(f))))

# The compiler's flags are in files of modest itself, which vendoring leaves alone. PKG_CARGO_ENV has flags for the linker that
# gcc calls, which are for libc.
MODEST_CARGO_TARGET = CARGO_TARGET_$(call UPPERCASE,$(RUSTC_TARGET_NAME))
MODEST_RUSTFLAGS = --remap-path-prefix=$(@D)/=
MODEST_CARGO_ENV = $(MODEST_CARGO_TARGET)_RUSTFLAGS="$(MODEST_RUSTFLAGS)"

# The linker of modest's own builds; a Rust that Buildroot compiles does not have it.
ifeq ($(BR2_PACKAGE_HOST_RUST_BIN),y)
MODEST_RUSTFLAGS += -Clinker-flavor=ld.lld
MODEST_CARGO_ENV += $(MODEST_CARGO_TARGET)_LINKER=rust-lld
endif

# With a profile of its own, which cargo does not accept together with --release.
define MODEST_BUILD_CMDS
	cd $(@D) && \
	$(TARGET_MAKE_ENV) $(TARGET_CONFIGURE_OPTS) $(PKG_CARGO_ENV) $(MODEST_CARGO_ENV) \
		cargo build --offline --locked --profile size -p modest-init \
			--config src/init/flags.toml --config src/init/thumb.toml \
			--no-default-features --features "$(MODEST_FEATURES)"
endef

define MODEST_INSTALL_TARGET_CMDS
	$(INSTALL) -D -m 0755 $(@D)/target/$(RUSTC_TARGET_NAME)/size/modest \
		$(TARGET_DIR)/sbin/modest
	$(MODEST_INSTALL_MANIFEST)
endef

MODEST_MANIFEST = $(call qstrip,$(BR2_PACKAGE_MODEST_MANIFEST))
MODEST_BUDGET = $(call qstrip,$(BR2_PACKAGE_MODEST_BUDGET))

ifeq ($(BR2_PACKAGE_MODEST_INITRAMFS),y)
# The script comes before the user's, which may put the initramfs into an image; one that names it decides its place.
MODEST_POST_IMAGE = $(BR2_EXTERNAL_MODEST_PATH)/board/modest/post-image.sh
MODEST_POST_IMAGE_USER := $(call qstrip,$(BR2_ROOTFS_POST_IMAGE_SCRIPT))
target-post-image: private BR2_ROOTFS_POST_IMAGE_SCRIPT := \
	$(if $(filter $(MODEST_POST_IMAGE),$(MODEST_POST_IMAGE_USER)),,$(MODEST_POST_IMAGE)) $(MODEST_POST_IMAGE_USER)

# What board/modest/post-image.sh reads.
target-post-image: private export MODEST_IMAGE_INIT = $(BINARIES_DIR)/modest
target-post-image: private export MODEST_IMAGE_BOARD = $(call qstrip,$(BR2_PACKAGE_MODEST_BOARD))
target-post-image: private export MODEST_IMAGE_MANIFEST = $(MODEST_MANIFEST)
target-post-image: private export MODEST_IMAGE_BUDGET = $(MODEST_BUDGET)
target-post-image: private export MODEST_IMAGE_OPTS = $(call qstrip,$(BR2_PACKAGE_MODEST_IMAGE_OPTS))
target-post-image: private export MODEST_IMAGE_MODULES = $(TARGET_DIR)/lib/modules/$(LINUX_VERSION_PROBED)
target-post-image: private export MODEST_IMAGE_SYMBOLS = $(LINUX_DIR)/Module.symvers

# As linked: strip makes the file in the target larger.
MODEST_INSTALL_IMAGES = YES
define MODEST_INSTALL_IMAGES_CMDS
	$(INSTALL) -D -m 0755 $(@D)/target/$(RUSTC_TARGET_NAME)/size/modest \
		$(BINARIES_DIR)/modest
endef
else ifneq ($(MODEST_MANIFEST),)
define MODEST_INSTALL_MANIFEST
	mkdir -p $(TARGET_DIR)/etc
	{ $(if $(MODEST_BUDGET),echo "@budget $(MODEST_BUDGET)" &&) cat $(MODEST_MANIFEST); } \
		>$(TARGET_DIR)/etc/modest.manifest
endef
endif

HOST_MODEST_LICENSE = Apache-2.0 or MIT
HOST_MODEST_LICENSE_FILES = LICENSE-APACHE LICENSE-MIT
HOST_MODEST_CARGO_BUILD_OPTS = -p mkmodest

define HOST_MODEST_INSTALL_CMDS
	$(INSTALL) -D -m 0755 $(@D)/target/release/mkmodest $(HOST_DIR)/bin/mkmodest
	mkdir -p $(HOST_DIR)/share/modest/boards
	$(INSTALL) -m 0644 $(@D)/boards/*.toml $(HOST_DIR)/share/modest/boards/
endef

$(eval $(cargo-package))
$(eval $(host-cargo-package))
