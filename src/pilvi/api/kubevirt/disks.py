"""Refusals about the volumes and disks of a machine. KubeVirt's own (pkg/virt-api/webhooks), so that what is wrong is said at once."""

from pilvi.api.object import Rule

__all__ = ["VOLUME_NAME", "disk_rules", "disk_variables"]

VOLUME_NAME = "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
"""A volume's name becomes that of a file, so it must be nothing else."""
_SERIAL = "^[A-Za-z0-9_.+-]*$"
_BUSES = {"disk": ["virtio", "scsi", "sata", "usb"], "cdrom": ["sata", "scsi", "usb"], "lun": ["scsi"]}
_WORDS = {
    "cache": ["none", "writethrough", "writeback"],
    "io": ["native", "threads", "default"],
    "errorPolicy": ["stop", "report", "ignore", "enospace"],
}
_BLOCK_SIZES = [512 << power for power in range(13)]
_CLOUD_INIT = ("cloudInitNoCloud", "cloudInitConfigDrive")
# Each is given in one way.
_GIVEN = (("userData", "userDataBase64", "secretRef"), ("networkData", "networkDataBase64", "networkDataSecretRef"))
# How a key gets into the guest -> the volume that carries it.
_SEEDS = {"noCloud": "cloudInitNoCloud", "configDrive": "cloudInitConfigDrive"}


def disk_variables() -> dict[str, str]:
    """CEL variables that `disk_rules` needs, over those of `machine_variables` and `interface_variables`."""
    return {
        "sources": "variables.machine.?volumes.orValue([])",
        "disks": "variables.domain.?devices.?disks.orValue([])",
        "bootOrders": (
            "(variables.disks.map(d, d.?bootOrder) + variables.interfaces.map(i, i.?bootOrder))"
            ".filter(order, order.hasValue()).map(order, order.value())"
        ),
        # Those that the machine writes to; several volumes may read one.
        "claims": (
            "variables.sources.filter(v, v.?persistentVolumeClaim.hasValue() && !v.persistentVolumeClaim.?readOnly.orValue(false))"
            ".map(v, v.persistentVolumeClaim.claimName)"
            " + variables.sources.filter(v, v.?dataVolume.hasValue()).map(v, v.dataVolume.name)"
        ),
        "cloudInits": " + ".join(f"variables.sources.filter(v, v.?{kind}.hasValue()).map(v, v.{kind})" for kind in _CLOUD_INIT),
    }


def disk_rules(path: str) -> tuple[Rule, ...]:
    """Rules over these variables; `path` is the field path of the instance's spec, for messages."""
    return (*_volume_rules(f"{path}.volumes"), *_disk_rules(f"{path}.domain.devices.disks"), *_seed_rules(path))


def _volume_rules(volumes: str) -> tuple[Rule, ...]:
    return (
        Rule(
            f"variables.volumes.all(name, name.matches('{VOLUME_NAME}'))",
            f"'{volumes}: a name has up to 63 small letters, digits and - between them, which these are not: '"
            f" + variables.volumes.filter(name, !name.matches('{VOLUME_NAME}')).join(', ')",
        ),
        Rule(
            _unique("variables.volumes"), f"'{volumes}: two are called '{_doubled('variables.volumes')} + '; give each a name of its own'"
        ),
        Rule(
            "variables.sources.all(v, v.filter(key, key != 'name').size() == 1)",
            f"'{volumes}: each says in one way what is behind it, such as containerDisk or dataVolume; look at '"
            " + variables.sources.filter(v, v.filter(key, key != 'name').size() != 1).map(v, v.name).join(', ')",
        ),
        Rule(
            _unique("variables.claims"),
            f"'{volumes}: two volumes write to the claim '{_doubled('variables.claims')} + '; keep one of them'",
        ),
        Rule(
            "variables.sources.all(v, [v.?containerDisk.?image, v.?persistentVolumeClaim.?claimName, v.?dataVolume.?name,"
            " v.?ephemeral.?persistentVolumeClaim.?claimName].all(word, word.orValue('x') != ''))",
            f"'{volumes}: an image, a claim or a DataVolume has no name; write it'",
        ),
        Rule(
            "variables.sources.map(v, v.?emptyDisk.?capacity).filter(c, c.hasValue()).map(c, string(c.value()))"
            ".all(c, isQuantity(c) && quantity(c).isGreaterThan(quantity('0')))",
            f"'{volumes}: the capacity of an emptyDisk is a positive quantity such as 2Gi'",
        ),
    )


def _disk_rules(disks: str) -> tuple[Rule, ...]:
    names = "variables.disks.map(d, d.name)"
    return (
        Rule(
            "variables.disks.all(d, d.name in variables.volumes)",
            f"'{disks}: no volume is called '"
            " + variables.disks.map(d, d.name).filter(name, !(name in variables.volumes)).join(', ')"
            f" + '; add it to {disks.removesuffix('.domain.devices.disks')}.volumes or take the disk away'",
        ),
        Rule(_unique(names), f"'{disks}: two show the volume '{_doubled(names)} + '; keep one of them'"),
        Rule(
            "variables.disks.all(d, [d.?disk, d.?cdrom, d.?lun].filter(kind, kind.hasValue()).size() <= 1)",
            f"'{disks}: each is one of disk, cdrom and lun'",
        ),
        *(
            Rule(
                f"variables.disks.all(d, d.?{kind}.?bus.orValue('') in {['', *buses]})",
                f"'{disks}: the bus of a {kind} is {_either(buses)}, not '"
                f" + variables.disks.map(d, d.?{kind}.?bus.orValue('')).filter(bus, !(bus in {['', *buses]})).join(', ')",
            )
            for kind, buses in _BUSES.items()
        ),
        *(
            Rule(
                f"variables.disks.all(d, d.?{field}.orValue('') in {['', *words]})",
                f"'{disks}: {field} is {_either(words)}, not '"
                f" + variables.disks.map(d, d.?{field}.orValue('')).filter(word, !(word in {['', *words]})).join(', ')",
            )
            for field, words in _WORDS.items()
        ),
        Rule(
            f"variables.disks.all(d, d.?serial.orValue('').matches('{_SERIAL}'))",
            f"'{disks}: a serial has letters, digits and _.+- only'",
        ),
        Rule(
            "variables.disks.map(d, d.?blockSize.?custom).filter(c, c.hasValue())"
            ".map(c, [c.value().?logical.orValue(512), c.value().?physical.orValue(c.value().?logical.orValue(512))])"
            f".all(sizes, sizes.all(size, size in {_BLOCK_SIZES}) && sizes[0] <= sizes[1])",
            f"'{disks}: blockSize.custom has powers of two from 512 to 2097152, and logical is not more than physical'",
        ),
        Rule("variables.bootOrders.all(order, order >= 1)", f"'{disks}: bootOrder begins with 1'"),
        Rule(
            _unique("variables.bootOrders"),
            f"'{disks}: two disks or interfaces have the bootOrder '"
            f"{_doubled('variables.bootOrders.map(order, string(order))')} + '; give each a number of its own'",
        ),
    )


def _seed_rules(path: str) -> tuple[Rule, ...]:
    ways = [
        Rule(
            f"variables.cloudInits.all(c, [{', '.join(f'c.?{field}' for field in fields)}]"
            ".filter(f, f.hasValue() && f.value() != '').size() <= 1)",
            f"'{path}.volumes: cloud-init has only one of {_either(list(fields), 'and')}'",
        )
        for fields in _GIVEN
    ]
    keys = "variables.machine.?accessCredentials.orValue([])"
    carried = [
        Rule(
            f"{keys}.all(key, !key.?sshPublicKey.?propagationMethod.?{way}.hasValue())"
            f" || variables.sources.exists(v, v.?{volume}.hasValue())",
            f"'{path}.accessCredentials: {way} puts a key into the volume {volume}, and there is none; add one, or use qemuGuestAgent'",
        )
        for way, volume in _SEEDS.items()
    ]
    return (
        Rule(
            "variables.cloudInits.size() <= 1",
            f"'{path}.volumes: a guest reads one cloud-init volume, not ' + string(variables.cloudInits.size()) + '; keep one of them'",
        ),
        *ways,
        *carried,
    )


def _unique(words: str) -> str:
    return f"{words}.all(word, {words}.exists_one(other, other == word))"


def _doubled(words: str) -> str:
    """CEL that appends the first word that is there more than once."""
    return f" + {words}.filter(word, {words}.filter(other, other == word).size() > 1)[0]"


def _either(words: list[str], last: str = "or") -> str:
    return f"{', '.join(words[:-1])} {last} {words[-1]}" if len(words) > 1 else words[0]
