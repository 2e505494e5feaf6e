"""What `twistd` offers: `econe`, the daemon, and `econe-sandbox`, an OpenNebula in a process to try it on."""

from twisted.application.service import ServiceMaker

econe = ServiceMaker("econed", "econed.tap", "The Amazon EC2 API of an OpenNebula cloud.", "econe")

sandbox = ServiceMaker(
    "econed sandbox",
    "econed.sandbox.tap",
    "An embedded oned to try econed on: XML-RPC, no state kept.",
    "econe-sandbox",
)
