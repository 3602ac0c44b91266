"""Machines under QEMU.

domain.py   hardware: from the instance's domain to host.qemu's QemuSpec, pure
features.py, gear.py   parts of it: enlightenments, clocks; watchdog, screen, sound
drives.py   disks: from volumes and devices.disks to drives, pure
files.py    the files of a machine: layers, empty disks, seeds
state.py    what it boots with, and what its firmware and its TPM remember
backend.py  the machine interface over units, taps and QMP
"""
