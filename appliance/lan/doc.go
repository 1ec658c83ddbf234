// Package lan holds the tests of everything between a document and paper on a real network: printers that appear,
// vanish, move, jam and lie, with CUPS's ippeveprinter and Avahi on the other side (package lantest), and the box's own
// packages as the box wires them: what dnssd hears goes to printing, which prints on adopted printers by ipp and keeps a
// journal in sqlite.
//
// What must hold whatever happens to the network: a document goes only to a machine that proves to be an adopted
// printer, no document is on paper twice unless a person decided so, and nobody is told that paper is out when it may
// not be.
package lan
