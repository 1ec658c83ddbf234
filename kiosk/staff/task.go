package staff

import (
	"context"
	"errors"
	"maps"
	"time"

	"sportello.example/kiosk"
)

// task is what a printer does because somebody pressed a button here. The page says how it is going: a printer may take
// minutes, and no browser waits for so long.
type task struct {
	name    string // of the printer
	running bool
	err     error
	trial   *Trial // of an adoption whose page is out
	left    int    // tries
	picture bool   // the adoption page was asked for as a picture
	receipt bool
	why     string // of a risk, as it was typed
	until   string
	at      time.Time // when it began, and then when it ended
}

const (
	taskLimit = 3 * time.Minute  // how long a page may take to come out
	taskLife  = 15 * time.Minute // how long its end is told
	maxTasks  = 20
)

// beginTask has a printer do something, unless it is still at it. key says what, and on which printer. The context of do ends
// with the box or after taskLimit.
func (s *Server) beginTask(key string, t task, do func(context.Context, *task) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.cfg.Now()
	maps.DeleteFunc(s.tasks, func(_ string, o *task) bool { return !o.running && now.Sub(o.at) >= taskLife })
	if len(s.tasks) >= maxTasks {
		s.forgetOldest()
	}
	if o := s.tasks[key]; o != nil && o.running || len(s.tasks) >= maxTasks || s.ctx.Err() != nil {
		return
	}
	t.running, t.at = true, now
	s.tasks[key] = &t
	mine := &t
	s.wg.Go(func() {
		ctx, cancel := context.WithTimeout(s.ctx, taskLimit)
		defer cancel()
		done := task{}
		err := do(ctx, &done)
		s.mu.Lock()
		defer s.mu.Unlock()
		mine.running, mine.err, mine.trial, mine.at = false, err, done.trial, s.cfg.Now()
		if done.trial != nil {
			mine.left = done.trial.Left
		}
		if err != nil {
			s.cfg.Log.Warn("printer did not do what staff asked", "task", key, "err", err)
		}
	})
}

// forgetOldest makes room for a task. The caller holds mu.
func (s *Server) forgetOldest() {
	var oldest string
	for key, t := range s.tasks {
		if !t.running && (oldest == "" || t.at.Before(s.tasks[oldest].at)) {
			oldest = key
		}
	}
	delete(s.tasks, oldest)
}

// task returns how something is going; false when nothing is known of it.
func (s *Server) task(key string) (task, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tasks[key]
	if t == nil || !t.running && s.cfg.Now().Sub(t.at) >= taskLife {
		return task{}, false
	}
	return *t, true
}

// changeTask changes what is known of something that has ended.
func (s *Server) changeTask(key string, f func(*task)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.tasks[key]; t != nil && !t.running {
		f(t)
	}
}

func (s *Server) forgetTask(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.tasks[key]; t != nil && !t.running {
		delete(s.tasks, key)
	}
}

// words says how a task is going, "" when there is nothing to say; bad when it did not work.
func (t task) words(p *page) (text string, bad bool) {
	var pe *kiosk.PrintError
	switch {
	case t.running:
		return p.t("staff.task.running"), false
	case t.err == nil:
		return p.t("staff.task.done"), false
	case errors.Is(t.err, ErrGone):
		return p.t("staff.error.gone"), true
	case errors.Is(t.err, ErrRefused):
		return p.t("staff.adopt.refused"), true
	case errors.Is(t.err, ErrRisk):
		return p.t("staff.risk.wrong"), true
	case errors.Is(t.err, ErrOver):
		return p.t("staff.code.over"), true
	case errors.As(t.err, &pe) && pe.Trouble != kiosk.TroubleNone:
		return p.t("staff.task.trouble", "trouble", p.t("trouble."+string(pe.Trouble)+".title")), true
	default:
		return p.t("staff.task.failed"), true
	}
}

// enterWords returns the key of what is said to somebody who is not let in.
func enterWords(err error) (key string, known bool) {
	switch {
	case errors.Is(err, ErrWrong):
		return "staff.login.wrong", true
	case errors.Is(err, ErrLocked):
		return "staff.login.locked", true
	case errors.Is(err, ErrNoCode):
		return "staff.login.nocode", true
	}
	return "", false
}
