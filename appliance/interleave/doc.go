// Package interleave holds the test that no sheet ever gets into the wrong hands: hundreds of thousands of visits at two
// kiosks that share two printers, with the real desk, spooler, IPP client and protocol between them, while printers jam,
// run dry, lose answers, are cut off, switched off, given other keys, and the box is killed in the middle of a step.
//
// What must hold, whatever happens (the ledger knows what really came out, not what anybody says):
//
//   - A sheet that comes out belongs to the visit that pressed "Stampa" at its kiosk, while that visitor is there, or
//     staff had been told before that a sheet may come out of that printer. A visitor is there until six seconds after
//     the visit has ended: as long as the kiosk says goodbye, and as long as a printer is given to confirm that a job is
//     cancelled. A box that is off can tell nobody.
//   - A sheet of a document comes out once, unless a person at the tray decided that it is printed again.
//   - Who is told that everything is printed has every sheet, whole.
//   - Nothing is sent to a printer that still has the document of a print that is over.
//   - In the end no printer has a job, the journal no open row, and no document is in memory.
//
// SPORTELLO_JOBS says how many times somebody presses "Stampa", SPORTELLO_SEED how luck falls. Every actor has a source of
// luck of its own, so that a seed gives the same decisions; what happens in the same nanosecond of the fake time may
// happen in either order.
package interleave
