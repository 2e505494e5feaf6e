"""What oned derives from the configuration of a machine: the boot order of its devices, the port of its console."""

from __future__ import annotations

from econed.sandbox.objects.virtual_machines import VirtualMachine

_FIRST_PORT = 5900
"""oned.conf, VNC_PORTS."""

_WITH_PORT = ("vnc", "spice")


def derive_configuration(machine: VirtualMachine) -> None:
    """Set ORDER of disks and NICs from OS/BOOT and, once the machine has a host, PORT of GRAPHICS."""
    systems = machine.template.vectors("OS")
    order = systems[0].get("BOOT", "").split(",") if systems else []
    for kind, devices in (("disk", machine.disks), ("nic", machine.nics)):
        for device in devices:
            name = f"{kind}{device[f'{kind.upper()}_ID']}"
            device.pop("ORDER", None)
            if name in order:
                device["ORDER"] = str(order.index(name) + 1)
    for graphics in machine.template.vectors("GRAPHICS"):
        if machine.history and graphics.get("TYPE", "").lower() in _WITH_PORT:
            graphics.setdefault("PORT", str(_FIRST_PORT + machine.id))
    machine.invalidate()
