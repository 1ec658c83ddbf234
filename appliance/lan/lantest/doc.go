// Package lantest is a branch's network with real printers on it, for tests: CUPS's ippeveprinter with a D-Bus and an
// Avahi of its own on every host, a switch between them, and hands that pull cables.
//
// The test process is the box: Main puts it in a network of its own, and every LAN is one network card of it. A host is
// a process with a network, a mount and a host name of its own (namespaces(7)). All of it is in the process namespace
// that Main makes, and nothing of it has a name outside: when the tests end, also by a kill, the kernel ends everything
// else, and two runs never meet.
//
// It needs Linux, root, and the Debian packages iproute2, nftables, util-linux, dbus, avahi-daemon, avahi-utils,
// cups-ipp-utils and, for the tests of package lan, poppler-utils.
//
// What is not as on a real network: packet loss is made by nftables, because not every kernel has netem. ippeveprinter
// comes with US Letter in its trays; see Printer.Paper. It takes a second job only when the first has ended.
package lantest
