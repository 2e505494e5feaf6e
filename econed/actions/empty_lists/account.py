"""Empty lists of what an account buys, reserves or connects at Amazon."""

from __future__ import annotations

from typing import Final

from econed.actions.empty_lists.row import EmptyList, absent

_LAUNCH_FILTERS: Final = (
    *("launch.block-device-mapping.delete-on-termination", "launch.block-device-mapping.device-name"),
    *("launch.block-device-mapping.snapshot-id", "launch.block-device-mapping.volume-size"),
    *("launch.block-device-mapping.volume-type", "launch.group-id", "launch.group-name", "launch.image-id"),
    *("launch.instance-type", "launch.kernel-id", "launch.key-name", "launch.monitoring-enabled", "launch.ramdisk-id"),
    *("network-interface.addresses.primary", "network-interface.delete-on-termination"),
    *("network-interface.description", "network-interface.device-index", "network-interface.group-id"),
    *("network-interface.network-interface-id", "network-interface.private-ip-address", "network-interface.subnet-id"),
)

_CAPACITY: Final = (
    EmptyList(
        "DescribeCapacityReservations",
        "CapacityReservations",
        "Capacity Reservations",
        (
            *("availability-zone", "end-date", "end-date-type", "instance-match-criteria", "instance-platform"),
            *("instance-type", "outpost-arn", "owner-id", "placement-group-arn", "start-date", "state", "tenancy"),
        ),
        ids="CapacityReservationIds",
        kind=absent(
            *("cr", "InvalidCapacityReservationId.NotFound", "InvalidCapacityReservationId.Malformed"),
            "Capacity Reservation ID",
        ),
        max_results=(1, 1000),
    ),
    EmptyList(
        "DescribeElasticGpus",
        "ElasticGpuSet",
        "elastic GPUs",
        ("availability-zone", "elastic-gpu-health", "elastic-gpu-state", "elastic-gpu-type", "instance-id"),
        have_tags=False,
        ids="ElasticGpuIds",
        kind=absent("egpu", "InvalidElasticGpuID.NotFound", "InvalidElasticGpuID.Malformed", "Elastic GPU ID"),
        max_results=(10, 1000),
    ),
    EmptyList(
        "DescribeFleets",
        "Fleets",
        "EC2 Fleets",
        (
            *("activity-status", "excess-capacity-termination-policy", "fleet-state"),
            *("replace-unhealthy-instances", "type"),
        ),
        have_tags=False,
        ids="FleetIds",
        kind=absent("fleet", "InvalidFleetId.NotFound", "InvalidFleetId.Malformed", "fleet ID"),
        max_results=(1, 1000),
    ),
    EmptyList(
        "DescribeHosts",
        "Hosts",
        "Dedicated Hosts",
        (
            *("auto-placement", "availability-zone", "client-token", "host-reservation-id"),
            *("instance-type", "state"),
        ),
        ids="HostIds",
        kind=absent("h", "InvalidHostID.NotFound", "InvalidHostID.Malformed", "Dedicated Host ID"),
        filters_in="Filter",
        max_results=(5, 500),
    ),
    EmptyList(
        "DescribeReservedInstances",
        "ReservedInstances",
        "Reserved Instances",
        (
            *("availability-zone", "availability-zone-id", "duration", "end", "fixed-price", "instance-type", "scope"),
            *("product-description", "reserved-instances-id", "start", "state", "usage-price"),
        ),
        ids="ReservedInstancesIds",
        # Their ids are UUIDs, without a prefix.
        kind=absent("", "InvalidReservedInstancesId", "InvalidReservedInstancesId", "Reserved Instance"),
        max_results=None,
        narrowed_by=("OfferingClass", "OfferingType"),
    ),
    EmptyList(
        "DescribeSpotFleetRequests",
        "SpotFleetRequestConfigs",
        "Spot Fleet requests",
        have_tags=False,
        ids="SpotFleetRequestIds",
        kind=absent(
            *("sfr", "InvalidSpotFleetRequestId.NotFound", "InvalidSpotFleetRequestId.Malformed"),
            "spot fleet request ID",
        ),
        filters_in="",
        max_results=(1, 1000),
    ),
    EmptyList(
        "DescribeSpotInstanceRequests",
        "SpotInstanceRequests",
        "Spot Instance requests",
        (
            *("availability-zone-group", "create-time", "fault-code", "fault-message", "instance-id", "launch-group"),
            *("launched-availability-zone", "launched-availability-zone-id", "product-description"),
            *("spot-instance-request-id", "spot-price", "state", "status-code", "status-message", "type"),
            *_LAUNCH_FILTERS,
        ),
        ids="SpotInstanceRequestIds",
        kind=absent(
            *("sir", "InvalidSpotInstanceRequestID.NotFound", "InvalidSpotInstanceRequestID.Malformed"),
            "spot instance request ID",
        ),
    ),
    EmptyList(
        "DescribeSpotPriceHistory",
        "SpotPriceHistory",
        "Spot prices",
        (
            *("availability-zone", "availability-zone-id", "instance-type", "product-description"),
            *("spot-price", "timestamp"),
        ),
        have_tags=False,
        max_results=(1, 1000),
        narrowed_by=(
            *("AvailabilityZone", "AvailabilityZoneId", "EndTime", "InstanceTypes", "ProductDescriptions"),
            "StartTime",
        ),
    ),
)

_PRIVATE_NETWORKS: Final = (
    EmptyList(
        "DescribeCustomerGateways",
        "CustomerGateways",
        "customer gateways",
        ("bgp-asn", "customer-gateway-id", "ip-address", "state", "type"),
        ids="CustomerGatewayIds",
        kind=absent(
            *("cgw", "InvalidCustomerGatewayID.NotFound", "InvalidCustomerGatewayId.Malformed"), "customer gateway ID"
        ),
        max_results=None,
    ),
    EmptyList(
        "DescribeFlowLogs",
        "FlowLogs",
        "flow logs",
        (
            *("deliver-log-status", "flow-log-id", "log-destination-type", "log-group-name", "resource-id"),
            "traffic-type",
        ),
        ids="FlowLogIds",
        kind=absent("fl", "InvalidFlowLogId.NotFound", "InvalidFlowLogId.NotFound", "flow log"),
        filters_in="Filter",
        max_results=(1, 1000),
    ),
    EmptyList(
        "DescribeInstanceConnectEndpoints",
        "InstanceConnectEndpoints",
        "EC2 Instance Connect Endpoints",
        ("instance-connect-endpoint-id", "state", "subnet-id", "vpc-id"),
        ids="InstanceConnectEndpointIds",
        kind=absent(
            *("eice", "InvalidInstanceConnectEndpointId.NotFound", "InvalidInstanceConnectEndpointId.Malformed"),
            "Instance Connect Endpoint ID",
        ),
        max_results=(1, 50),
    ),
    EmptyList(
        "DescribeTransitGateways",
        "TransitGateways",
        "transit gateways",
        (
            *("options.amazon-side-asn", "options.association-default-route-table-id"),
            *("options.auto-accept-shared-attachments", "options.default-route-table-association"),
            *("options.default-route-table-propagation", "options.dns-support"),
            *("options.propagation-default-route-table-id", "options.vpn-ecmp-support"),
            *("owner-id", "state", "transit-gateway-id"),
        ),
        ids="TransitGatewayIds",
        kind=absent(
            *("tgw", "InvalidTransitGatewayID.NotFound", "InvalidTransitGatewayID.Malformed"), "transit gateway ID"
        ),
    ),
    EmptyList(
        "DescribeVpnConnections",
        "VpnConnections",
        "VPN connections",
        (
            *("bgp-asn", "customer-gateway-configuration", "customer-gateway-id", "option.static-routes-only"),
            *("route.destination-cidr-block", "state", "transit-gateway-id", "type", "vpn-connection-id"),
            "vpn-gateway-id",
        ),
        ids="VpnConnectionIds",
        kind=absent("vpn", "InvalidVpnConnectionID.NotFound", "InvalidVpnConnectionID", "vpnConnection ID"),
        max_results=None,
    ),
    EmptyList(
        "DescribeVpnGateways",
        "VpnGateways",
        "virtual private gateways",
        (
            *("amazon-side-asn", "attachment.state", "attachment.vpc-id", "availability-zone", "state", "type"),
            "vpn-gateway-id",
        ),
        ids="VpnGatewayIds",
        kind=absent("vgw", "InvalidVpnGatewayID.NotFound", "InvalidVpnGatewayID.NotFound", "vpnGateway ID"),
        max_results=None,
    ),
)

_PROFILES: Final = EmptyList(
    "DescribeIamInstanceProfileAssociations",
    "IamInstanceProfileAssociations",
    "instance profiles of instances",
    ("instance-id", "state"),
    have_tags=False,
    ids="AssociationIds",
    kind=absent("iip-assoc", "InvalidAssociationID.NotFound", "InvalidAssociationID.Malformed", "association ID"),
)

OF_ACCOUNT: Final = (*_CAPACITY, *_PRIVATE_NETWORKS, _PROFILES)
