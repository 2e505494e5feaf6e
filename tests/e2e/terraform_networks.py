"""What Terraform's AWS provider sends for resources of networks, and how it compares them with a configuration.

The calls and comparisons are those of the providers 5.x and 6.x according to their source (`internal/service/ec2`). A
plan is empty if what is read is what is configured; `differences` returns the attributes for which this is not so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from itertools import product
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.e2e.waiting import wait, wait_for
from tests.support.clients import refusal

Tags = Mapping[str, str]

_ALL_OUT: Mapping[str, Any] = {"IpProtocol": "-1", "FromPort": 0, "ToPort": 0}


@dataclass(frozen=True)
class Vpc:
    """The configuration of an aws_vpc (vpc_.go)."""

    cidr_block: str
    enable_dns_support: bool = True
    enable_dns_hostnames: bool = False
    instance_tenancy: str = "default"
    tags: Tags = field(default_factory=dict)


@dataclass(frozen=True)
class Subnet:
    """The configuration of an aws_subnet (vpc_subnet.go)."""

    vpc_id: str
    cidr_block: str
    availability_zone: str
    map_public_ip_on_launch: bool = False
    assign_ipv6_address_on_creation: bool = False
    enable_dns64: bool = False
    ipv6_native: bool = False
    enable_resource_name_dns_a_record_on_launch: bool = False
    tags: Tags = field(default_factory=dict)


@dataclass(frozen=True)
class RuleBlock:
    """A block `ingress` or `egress` of aws_security_group."""

    protocol: str
    from_port: int
    to_port: int
    cidr_blocks: frozenset[str] = frozenset()
    ipv6_cidr_blocks: frozenset[str] = frozenset()
    description: str = ""

    @property
    def ports(self) -> tuple[str, int, int]:
        """By what the provider finds the block among those that it reads."""
        return self.protocol, self.from_port, self.to_port

    @property
    def single_rules(self) -> set[RuleBlock]:
        """A block for each CIDR block, as the provider compares them before it changes rules."""
        plain = replace(self, cidr_blocks=frozenset(), ipv6_cidr_blocks=frozenset())
        return {replace(plain, cidr_blocks=frozenset({cidr})) for cidr in self.cidr_blocks} | {
            replace(plain, ipv6_cidr_blocks=frozenset({cidr})) for cidr in self.ipv6_cidr_blocks
        }


@dataclass(frozen=True)
class SecurityGroup:
    """The configuration of an aws_security_group (vpc_security_group.go)."""

    name: str
    description: str
    vpc_id: str
    ingress: frozenset[RuleBlock] = frozenset()
    egress: frozenset[RuleBlock] = frozenset()
    tags: Tags = field(default_factory=dict)


@dataclass(frozen=True)
class Rule:
    """The configuration of an aws_vpc_security_group_ingress_rule, or …_egress_rule (vpc_security_group_…_rule.go)."""

    security_group_id: str
    direction: str
    ip_protocol: str
    cidr_ipv4: str | None = None
    cidr_ipv6: str | None = None
    from_port: int | None = None
    to_port: int | None = None
    description: str | None = None
    tags: Tags = field(default_factory=dict)


@dataclass(frozen=True)
class Instance:
    """The part of the configuration of an aws_instance that concerns networks (ec2_instance.go)."""

    ami: str
    instance_type: str
    subnet_id: str
    vpc_security_group_ids: frozenset[str]
    tags: Tags = field(default_factory=dict)


def differences(configured: object, read: object) -> set[str]:
    """Return the names of the attributes that a plan would change; none if the plan is empty."""
    names = (attribute.name for attribute in fields(configured))  # type: ignore[arg-type]
    return {name for name in names if getattr(configured, name) != getattr(read, name)}


def create_vpc(ec2: Any, vpc: Vpc) -> str:
    """Create a VPC, wait until it is available, and set the attributes that are not as in a new one; return its id."""
    created = ec2.create_vpc(
        CidrBlock=vpc.cidr_block,
        InstanceTenancy=vpc.instance_tenancy,
        AmazonProvidedIpv6CidrBlock=False,
        **_specified("vpc", vpc.tags),
    )
    id_: str = created["Vpc"]["VpcId"]
    wait_for(ec2, "vpc_available", VpcIds=[id_])
    change_vpc(ec2, id_, Vpc(vpc.cidr_block, tags=vpc.tags), vpc)
    return id_


def read_vpc(ec2: Any, id_: str) -> Vpc:
    """Read a VPC, and the parts of it that the provider shows; each VPC has one of each."""
    (vpc,) = ec2.describe_vpcs(VpcIds=[id_])["Vpcs"]
    attributes = {
        name: ec2.describe_vpc_attribute(VpcId=id_, Attribute=name)[f"{name[0].upper()}{name[1:]}"]["Value"]
        for name in ("enableDnsHostnames", "enableDnsSupport", "enableNetworkAddressUsageMetrics")
    }
    assert attributes["enableNetworkAddressUsageMetrics"] is False
    in_vpc = {"Name": "vpc-id", "Values": [id_]}
    (_,) = ec2.describe_network_acls(Filters=[in_vpc, {"Name": "default", "Values": ["true"]}])["NetworkAcls"]
    main = {"Name": "association.main", "Values": ["true"]}
    (_,) = ec2.describe_route_tables(Filters=[main, in_vpc])["RouteTables"]
    default = {"Name": "group-name", "Values": ["default"]}
    (_,) = ec2.describe_security_groups(Filters=[default, in_vpc])["SecurityGroups"]
    return Vpc(
        cidr_block=vpc["CidrBlock"],
        enable_dns_support=attributes["enableDnsSupport"],
        enable_dns_hostnames=attributes["enableDnsHostnames"],
        instance_tenancy=vpc["InstanceTenancy"],
        tags=_tags(vpc),
    )


def change_vpc(ec2: Any, id_: str, before: Vpc, after: Vpc) -> None:
    """Change attributes, each by a call of its own, and tags."""
    for name, attribute in (("enable_dns_hostnames", "EnableDnsHostnames"), ("enable_dns_support", "EnableDnsSupport")):
        if getattr(before, name) != getattr(after, name):
            ec2.modify_vpc_attribute(VpcId=id_, **{attribute: {"Value": getattr(after, name)}})
    change_tags(ec2, id_, before.tags, after.tags)


def delete_vpc(ec2: Any, id_: str) -> None:
    """Delete a VPC; it must not be found afterwards."""
    ec2.delete_vpc(VpcId=id_)
    with pytest.raises(ClientError) as raised:
        ec2.describe_vpcs(VpcIds=[id_])
    assert refusal(raised.value)[0] == "InvalidVpcID.NotFound"


def create_subnet(ec2: Any, subnet: Subnet) -> str:
    """Create a subnet, and wait until it is available; return its id."""
    created = ec2.create_subnet(
        VpcId=subnet.vpc_id,
        CidrBlock=subnet.cidr_block,
        AvailabilityZone=subnet.availability_zone,
        **_specified("subnet", subnet.tags),
    )
    id_: str = created["Subnet"]["SubnetId"]
    wait_for(ec2, "subnet_available", SubnetIds=[id_])
    return id_


def read_subnet(ec2: Any, id_: str) -> Subnet:
    """Read a subnet."""
    (subnet,) = ec2.describe_subnets(SubnetIds=[id_])["Subnets"]
    names = subnet["PrivateDnsNameOptionsOnLaunch"]
    return Subnet(
        vpc_id=subnet["VpcId"],
        cidr_block=subnet["CidrBlock"],
        availability_zone=subnet["AvailabilityZone"],
        map_public_ip_on_launch=subnet["MapPublicIpOnLaunch"],
        assign_ipv6_address_on_creation=subnet["AssignIpv6AddressOnCreation"],
        enable_dns64=subnet["EnableDns64"],
        ipv6_native=subnet["Ipv6Native"],
        enable_resource_name_dns_a_record_on_launch=names["EnableResourceNameDnsARecord"],
        tags=_tags(subnet),
    )


def delete_subnet(ec2: Any, id_: str) -> None:
    """Delete a subnet after a look for interfaces that others left in it; it must not be found afterwards."""
    filters = [{"Name": "subnet-id", "Values": [id_]}, {"Name": "description", "Values": ["AWS Lambda VPC ENI*"]}]
    assert ec2.describe_network_interfaces(Filters=filters)["NetworkInterfaces"] == []
    ec2.delete_subnet(SubnetId=id_)
    with pytest.raises(ClientError) as raised:
        ec2.describe_subnets(SubnetIds=[id_])
    assert refusal(raised.value)[0] == "InvalidSubnetID.NotFound"


def create_security_group(ec2: Any, group: SecurityGroup) -> str:
    """Create a group without Amazon's default rule, then its rules; return its id."""
    id_: str = ec2.create_security_group(
        GroupName=group.name,
        Description=group.description,
        VpcId=group.vpc_id,
        **_specified("security-group", group.tags),
    )["GroupId"]
    for _ in range(3):  # it must be there three times
        assert ec2.describe_security_groups(GroupIds=[id_])["SecurityGroups"]
    default = {**_ALL_OUT, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    ec2.revoke_security_group_egress(GroupId=id_, IpPermissions=[default])
    with pytest.raises(ClientError) as raised:
        ec2.revoke_security_group_egress(
            GroupId=id_, IpPermissions=[{**_ALL_OUT, "Ipv6Ranges": [{"CidrIpv6": "::/0"}]}]
        )
    assert refusal(raised.value)[0] == "InvalidPermission.NotFound"
    _change_rules(ec2, id_, replace(group, ingress=frozenset(), egress=frozenset()), group)
    return id_


def read_security_group(ec2: Any, id_: str, configured: SecurityGroup) -> SecurityGroup:
    """Read a group; its rules are put together as in the configuration, as far as they are the same."""
    (group,) = ec2.describe_security_groups(GroupIds=[id_])["SecurityGroups"]
    return SecurityGroup(
        name=group["GroupName"],
        description=group["Description"],
        vpc_id=group["VpcId"],
        ingress=_matched(configured.ingress, group["IpPermissions"]),
        egress=_matched(configured.egress, group["IpPermissionsEgress"]),
        tags=_tags(group),
    )


def change_security_group(ec2: Any, id_: str, before: SecurityGroup, after: SecurityGroup) -> None:
    """Change the rules and tags of a group."""
    _change_rules(ec2, id_, before, after)
    change_tags(ec2, id_, before.tags, after.tags)


def delete_security_group(ec2: Any, id_: str) -> None:
    """Delete a group after a look for interfaces that others left in it; it must not be found afterwards."""
    filters = [{"Name": "group-id", "Values": [id_]}, {"Name": "description", "Values": ["AWS Lambda VPC ENI*"]}]
    assert ec2.describe_network_interfaces(Filters=filters)["NetworkInterfaces"] == []
    ec2.delete_security_group(GroupId=id_)
    with pytest.raises(ClientError) as raised:
        ec2.describe_security_groups(GroupIds=[id_])
    assert refusal(raised.value)[0] == "InvalidGroup.NotFound"


def create_rule(ec2: Any, rule: Rule) -> str:
    """Create a rule; return its id."""
    described = {} if rule.description is None else {"Description": rule.description}
    permission: dict[str, Any] = {"IpProtocol": rule.ip_protocol, **_ports(rule)}
    if rule.cidr_ipv4 is not None:
        permission["IpRanges"] = [{"CidrIp": rule.cidr_ipv4, **described}]
    if rule.cidr_ipv6 is not None:
        permission["Ipv6Ranges"] = [{"CidrIpv6": rule.cidr_ipv6, **described}]
    authorize = getattr(ec2, f"authorize_security_group_{rule.direction}")
    created = authorize(
        GroupId=rule.security_group_id, IpPermissions=[permission], **_specified("security-group-rule", rule.tags)
    )
    return str(created["SecurityGroupRules"][0]["SecurityGroupRuleId"])


def read_rule(ec2: Any, id_: str, configured: Rule) -> Rule:
    """Read a rule by its id; -1 is no port where none is configured."""
    (rule,) = ec2.describe_security_group_rules(SecurityGroupRuleIds=[id_])["SecurityGroupRules"]
    first, last = (
        None if rule[name] == -1 and given is None else rule[name]
        for name, given in (("FromPort", configured.from_port), ("ToPort", configured.to_port))
    )
    return Rule(
        security_group_id=rule["GroupId"],
        direction="egress" if rule["IsEgress"] else "ingress",
        ip_protocol=rule["IpProtocol"],
        cidr_ipv4=rule.get("CidrIpv4"),
        cidr_ipv6=rule.get("CidrIpv6"),
        from_port=first,
        to_port=last,
        description=rule.get("Description"),
        tags=_tags(rule),
    )


def change_rule(ec2: Any, id_: str, before: Rule, after: Rule) -> None:
    """Change a rule, which keeps its id."""
    wanted = {"CidrIpv4": after.cidr_ipv4, "CidrIpv6": after.cidr_ipv6, "Description": after.description}
    request = {"IpProtocol": after.ip_protocol, **_ports(after)}
    request |= {name: value for name, value in wanted.items() if value is not None}
    update = {"SecurityGroupRuleId": id_, "SecurityGroupRule": request}
    ec2.modify_security_group_rules(GroupId=after.security_group_id, SecurityGroupRules=[update])
    change_tags(ec2, id_, before.tags, after.tags)


def delete_rule(ec2: Any, id_: str, rule: Rule) -> None:
    """Remove a rule by its id."""
    revoke = getattr(ec2, f"revoke_security_group_{rule.direction}")
    revoke(GroupId=rule.security_group_id, SecurityGroupRuleIds=[id_])


def create_instance(ec2: Any, instance: Instance) -> str:
    """Run an instance and wait until it is running; return its id."""
    (launched,) = ec2.run_instances(
        ImageId=instance.ami,
        InstanceType=instance.instance_type,
        MinCount=1,
        MaxCount=1,
        SubnetId=instance.subnet_id,
        SecurityGroupIds=sorted(instance.vpc_security_group_ids),
        DisableApiTermination=False,
        EbsOptimized=False,
        HibernationOptions={"Configured": False},
        Monitoring={"Enabled": False},
        Placement={"AvailabilityZone": ""},
        **_specified("instance", instance.tags),
    )["Instances"]
    wait(ec2, "instance_running", [launched["InstanceId"]])
    return str(launched["InstanceId"])


def read_instance(ec2: Any, id_: str) -> Instance:
    """Read an instance; its groups are read by their ids, since it is in a VPC that can be found."""
    instance = _instance(ec2, id_)
    (vpc,) = ec2.describe_vpcs(VpcIds=[instance["VpcId"]])["Vpcs"]
    assert vpc["VpcId"] == instance["VpcId"]
    return Instance(
        ami=instance["ImageId"],
        instance_type=instance["InstanceType"],
        subnet_id=instance["SubnetId"],
        vpc_security_group_ids=frozenset(group["GroupId"] for group in instance["SecurityGroups"]),
        tags=_tags(instance),
    )


def change_groups_of_instance(ec2: Any, id_: str, groups: Iterable[str]) -> None:
    """Change the groups of the first interface of an instance."""
    interfaces = _instance(ec2, id_)["NetworkInterfaces"]
    (first,) = [interface for interface in interfaces if interface["Attachment"]["DeviceIndex"] == 0]
    ec2.modify_network_interface_attribute(NetworkInterfaceId=first["NetworkInterfaceId"], Groups=sorted(groups))


def delete_instance(ec2: Any, id_: str) -> None:
    """Terminate an instance, and wait for its end."""
    ec2.terminate_instances(InstanceIds=[id_])
    wait(ec2, "instance_terminated", [id_])


def change_tags(ec2: Any, id_: str, before: Tags, after: Tags) -> None:
    """Remove the tags that are no longer configured, then set those that are new or have another value."""
    gone = [{"Key": key} for key in sorted(before.keys() - after.keys())]
    new = [{"Key": key, "Value": value} for key, value in sorted(after.items()) if before.get(key) != value]
    if gone:
        ec2.delete_tags(Resources=[id_], Tags=gone)
    if new:
        ec2.create_tags(Resources=[id_], Tags=new)


def _change_rules(ec2: Any, id_: str, before: SecurityGroup, after: SecurityGroup) -> None:
    """Remove rules, then add rules, of each direction by one call."""
    assert ec2.describe_security_groups(GroupIds=[id_])["SecurityGroups"]
    for direction in ("ingress", "egress"):
        old, new = (
            {rule for block in getattr(group, direction) for rule in block.single_rules} for group in (before, after)
        )
        for verb, rules in (("revoke", old - new), ("authorize", new - old)):
            if rules:
                call = getattr(ec2, f"{verb}_security_group_{direction}")
                call(GroupId=id_, IpPermissions=_permissions(rules))


def _permissions(rules: Iterable[RuleBlock]) -> list[dict[str, Any]]:
    """Return single rules as IpPermissions, one for each protocol, ports and description."""
    permissions: dict[tuple[object, ...], dict[str, Any]] = {}
    for rule in rules:
        ports = {} if rule.protocol == "-1" else {"FromPort": rule.from_port, "ToPort": rule.to_port}
        new = {"IpProtocol": rule.protocol, **ports, "IpRanges": [], "Ipv6Ranges": []}
        permission = permissions.setdefault((rule.ports, rule.description), new)
        described = {"Description": rule.description} if rule.description else {}
        permission["IpRanges"] += [{"CidrIp": cidr, **described} for cidr in rule.cidr_blocks]
        permission["Ipv6Ranges"] += [{"CidrIpv6": cidr, **described} for cidr in rule.ipv6_cidr_blocks]
    return list(permissions.values())


def _matched(configured: Iterable[RuleBlock], permissions: Iterable[Mapping[str, Any]]) -> frozenset[RuleBlock]:
    """Return the blocks that are read: the configured ones that are there, and what else is there."""
    remote = _gathered(permissions)
    matched: set[RuleBlock] = set()
    for local, (key, there) in product(list(configured), list(remote.items())):
        rest = remote[key]
        has_blocks = local.cidr_blocks <= rest.cidr_blocks and local.ipv6_cidr_blocks <= rest.ipv6_cidr_blocks
        if has_blocks and local.ports == there.ports:
            matched.add(replace(local, description=there.description))
            ipv4, ipv6 = rest.cidr_blocks - local.cidr_blocks, rest.ipv6_cidr_blocks - local.ipv6_cidr_blocks
            remote[key] = replace(rest, cidr_blocks=ipv4, ipv6_cidr_blocks=ipv6)
    return frozenset(matched | {rest for rest in remote.values() if rest.cidr_blocks or rest.ipv6_cidr_blocks})


def _gathered(permissions: Iterable[Mapping[str, Any]]) -> dict[tuple[str, int, int, str], RuleBlock]:
    """Return the rules of a group as blocks, by protocol, ports and description."""
    blocks: dict[tuple[str, int, int, str], RuleBlock] = {}
    for permission in permissions:
        ports = permission["IpProtocol"], permission.get("FromPort", 0), permission.get("ToPort", 0)
        for name, member in (("cidr_blocks", "CidrIp"), ("ipv6_cidr_blocks", "CidrIpv6")):
            for block in permission["IpRanges" if member == "CidrIp" else "Ipv6Ranges"]:
                key = (*ports, block.get("Description", ""))
                found = blocks.setdefault(key, RuleBlock(*ports, description=key[-1]))
                blocks[key] = replace(found, **{name: getattr(found, name) | {block[member]}})
    return blocks


def _ports(rule: Rule) -> dict[str, int]:
    ports = {"FromPort": rule.from_port, "ToPort": rule.to_port}
    return {name: port for name, port in ports.items() if port is not None}


def _specified(resource_type: str, tags: Tags) -> dict[str, Any]:
    if not tags:
        return {}
    tag_list = [{"Key": key, "Value": value} for key, value in tags.items()]
    return {"TagSpecifications": [{"ResourceType": resource_type, "Tags": tag_list}]}


def _tags(view: Mapping[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in view.get("Tags", [])}


def _instance(ec2: Any, id_: str) -> Mapping[str, Any]:
    (reservation,) = ec2.describe_instances(InstanceIds=[id_])["Reservations"]
    instance: Mapping[str, Any] = reservation["Instances"][0]
    return instance
