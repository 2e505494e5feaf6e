"""The daemon as a Twisted application, for `twistd -y econe.tac`; ECONE_CONF names its configuration file."""

import os

from twisted.application.service import Application

from econed import tap

if not os.environ.get("ECONE_CONF"):
    raise SystemExit("econe.tac: set ECONE_CONF to the path of econe.conf")

options = tap.Options()
options.parseOptions(["--config", os.environ["ECONE_CONF"]])

application = Application("econe")
tap.makeService(options).setServiceParent(application)
