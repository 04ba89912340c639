"""The convolution block: hardware that runs a mapping given as data; its ports are counted.

`config` says how large a block is, `program` turns a mapping into what the block reads, `rtl` is
the block, `simulate` runs it. The RTL needs the extra `hwc` (Amaranth); nothing here is imported
unless the block is used.
"""
