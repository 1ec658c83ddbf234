package ingest

import "sportello.example/sync/event"

// kinds are those that this hub understands. Others wait in quarantine.
var kinds = map[event.Kind]bool{
	event.SessionStarted: true, event.SessionEnded: true, event.StepAnswered: true, event.AnswerRefused: true,
	event.LoginShown: true, event.LoginCodeOK: true, event.LoginCodeWrong: true, event.LoginExpired: true,
	event.LoginLocked: true, event.LoginIdentified: true, event.LoginRejected: true, event.DocumentReceived: true,
	event.DocumentRefused: true, event.DeclarationMade: true, event.RequestLeft: true, event.RequestCollected: true,
	event.PrintStarted: true, event.PrintDone: true, event.PrintFailed: true, event.PrintUncertain: true,
	event.SheetsMissing: true, event.LineDown: true, event.LineUp: true, event.DatabaseSetAside: true,
	event.EventsLost: true, event.BoxStarted: true, event.EpochBegun: true, event.Gap: true, event.QueueDropped: true,
	event.PrintDecided: true, event.PrinterAdopted: true, event.PrinterRetired: true, event.PrinterAlarm: true,
	event.EventDead: true, event.StatsRolled: true, event.ClockSet: true,
}
