"""Actions of Amazon's that econed does not carry out, and what an administrator can do instead: one table.

For others that econed does not have, the error says only that. For these, clients that show the message of an error
tell their users how to reach their aim.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

_GATEWAYS = (
    "Gateways are attributes of OpenNebula's networks: an administrator sets GATEWAY with 'onevnet update NETWORK'."
)
_ROUTES = (
    "Routes are those of the routers of OpenNebula's networks: an administrator configures the router that is the "
    "GATEWAY of the network, or connects networks by a virtual router."
)
_ACLS = (
    "OpenNebula filters by security groups only: use these, or ask an administrator to filter at the router that is "
    "the GATEWAY of the network."
)
_NAT = (
    "An administrator provides NAT at the router that is the GATEWAY of the network, or by a virtual router; elastic "
    "IPs need none."
)
_PEERING = "VPCs are separate networks: an administrator connects them by a virtual router."
_ENDPOINTS = "There are no services of Amazon here; those of the cloud are reached through the GATEWAY of the network."
_DHCP = "Name servers are attributes of OpenNebula's networks: an administrator sets DNS with 'onevnet update NETWORK'."
_BLOCKS = "The addresses of a network are its ranges: an administrator adds one with 'onevnet addar NETWORK'."
_DEFAULTS = (
    "The default VPC is always there; its subnets are the networks that you may use: an administrator shares a network "
    "with 'onevnet chmod NETWORK 644'."
)
_TENANCY = "OpenNebula has no dedicated hosts for a VPC: instances run on all hosts of their availability zone."
_INTERFACES = (
    "OpenNebula has no network interface without an instance, and cannot move an address from one to another: describe "
    "the interfaces in RunInstances (NetworkInterface.N). One that is detached is deleted."
)
_PREFIX_LISTS = "Security groups of OpenNebula have no lists of prefixes: use a rule for each of them."

_CLASSIC = "The functionality you requested is not available in this region."
"""EC2-Classic is nowhere. Ansible's amazon.aws 5 goes on after this sentence, Amazon's, and after no other."""

_ENCRYPTION = (
    "OpenNebula does not encrypt disks by itself: an administrator keeps datastores on encrypted storage, or users "
    "encrypt disks in their instances."
)
_SERIAL_CONSOLE = "The console of an instance is in OpenNebula's Sunstone (VNC), for users who may log in there."
_LONG_IDS = "The ids of resources contain OpenNebula's; their form is the same for all users."

_CREDITS = "No instance type is burstable: instances use the CPU that their type has."
_STATUS = "Write to an administrator of this cloud; they see the state of hosts in Sunstone."

UNSUPPORTED: Final[Mapping[str, str]] = MappingProxyType(
    {
        **dict.fromkeys(
            (
                *("AttachInternetGateway", "CreateCarrierGateway", "CreateEgressOnlyInternetGateway"),
                *("CreateInternetGateway", "DeleteInternetGateway", "DetachInternetGateway"),
            ),
            _GATEWAYS,
        ),
        **dict.fromkeys(
            (
                *("AssociateRouteTable", "CreateRoute", "CreateRouteTable", "DeleteRoute", "DeleteRouteTable"),
                *("DisassociateRouteTable", "ReplaceRoute", "ReplaceRouteTableAssociation"),
            ),
            _ROUTES,
        ),
        **dict.fromkeys(
            (
                *("CreateNetworkAcl", "CreateNetworkAclEntry", "DeleteNetworkAcl", "DeleteNetworkAclEntry"),
                *("ReplaceNetworkAclAssociation", "ReplaceNetworkAclEntry"),
            ),
            _ACLS,
        ),
        "CreateNatGateway": _NAT,
        "CreateVpcPeeringConnection": _PEERING,
        "CreateVpcEndpoint": _ENDPOINTS,
        **dict.fromkeys(("AssociateDhcpOptions", "CreateDhcpOptions", "DeleteDhcpOptions"), _DHCP),
        **dict.fromkeys(("AssociateSubnetCidrBlock", "AssociateVpcCidrBlock"), _BLOCKS),
        **dict.fromkeys(("CreateDefaultSubnet", "CreateDefaultVpc"), _DEFAULTS),
        "ModifyVpcTenancy": _TENANCY,
        **dict.fromkeys(
            (
                *("AssignIpv6Addresses", "AssignPrivateIpAddresses", "AttachNetworkInterface"),
                *("CreateNetworkInterface", "DeleteNetworkInterface", "UnassignIpv6Addresses"),
                "UnassignPrivateIpAddresses",
            ),
            _INTERFACES,
        ),
        "CreateManagedPrefixList": _PREFIX_LISTS,
        **dict.fromkeys(("DescribeVpcClassicLink", "DescribeVpcClassicLinkDnsSupport"), _CLASSIC),
        "EnableEbsEncryptionByDefault": _ENCRYPTION,
        **dict.fromkeys(("EnableSerialConsoleAccess", "GetConsoleScreenshot"), _SERIAL_CONSOLE),
        "ModifyInstanceCreditSpecification": _CREDITS,
        "ReportInstanceStatus": _STATUS,
        **dict.fromkeys(("ModifyIdFormat", "ModifyIdentityIdFormat"), _LONG_IDS),
    }
)
"""By action of EC2: the rest of the message of its error, UnsupportedOperation."""
