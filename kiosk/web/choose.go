package web

import (
	"errors"
	"net/url"
	"slices"
	"strconv"

	"github.com/labstack/echo/v4"

	"sportello.example/kiosk"
)

// choice makes cards of answers: each goes by the texts <page>.<value>.title and .text.
func choice(p *page, answers []string, icons map[string]string, chosen string) error {
	t := &texts{l: p.lang}
	for _, a := range answers {
		cd := card{Name: "choice", Value: a, Icon: icons[a], Title: t.t(joinKey(p.Name, a, "title")), Chosen: a == chosen}
		if key := joinKey(p.Name, a, "text"); p.lang.Has(key) {
			cd.Text = t.t(key)
		}
		p.Cards = append(p.Cards, cd)
	}
	return t.err
}

// lead puts the text <page>.lead under the title.
func lead(p *page, args ...any) (err error) {
	p.Lead, err = p.lang.T(p.Name+".lead", args...)
	return err
}

func (s *Server) showNeed(_ echo.Context, v visit, p *page) (err error) {
	p.Live.Reload = true
	p.Back = v.base() + "/language"
	if p.Banner, err = s.lineBanner(p.lang, v); err != nil {
		return err
	}
	services := []string{string(kiosk.Certificates), string(kiosk.SelfDeclaration), string(kiosk.Pickup)}
	icons := map[string]string{services[0]: "certificate", services[1]: "pencil", services[2]: "inbox"}
	if err := choice(p, services, icons, ""); err != nil {
		return err
	}
	t := &texts{l: p.lang}
	if !v.lineUp {
		p.Cards[0].Note, p.Cards[1].Note, p.Cards[2].Note = t.t("need.certificate.offline"), t.t("need.declaration.offline"), t.t("need.collect.offline")
	}
	for _, l := range []struct{ to, icon string }{{"spid", "phone"}, {"help", "person"}, {"now", "light"}} {
		p.Cards = append(p.Cards, card{
			Href: v.base() + "/" + l.to, Icon: l.icon, Title: t.t(joinKey("need", l.to, "title")), Text: t.t(joinKey("need", l.to, "text")),
		})
	}
	return t.err
}

func (s *Server) postNeed(c echo.Context, v visit) error {
	return s.desk.SetService(c.Request().Context(), v.session, kiosk.Service(c.FormValue("choice")))
}

func (s *Server) showRecipient(_ echo.Context, v visit, p *page) error {
	var answers []string
	for _, r := range kiosk.Recipients() {
		answers = append(answers, string(r))
	}
	icons := map[string]string{"public": "public", "utility": "plug", "private": "private", "abroad": "flag", "court": "court"}
	return choice(p, answers, icons, string(v.view.Answers.Recipient))
}

func (s *Server) postRecipient(c echo.Context, v visit) error {
	return s.desk.SetRecipient(c.Request().Context(), v.session, kiosk.Recipient(c.FormValue("choice")))
}

func (s *Server) showAdvice(_ echo.Context, v visit, p *page) error {
	if err := lead(p); err != nil {
		return err
	}
	p.Back = v.path(kiosk.StepRecipient)
	t := &texts{l: p.lang}
	p.Cards = []card{
		{Name: "choice", Value: "declaration", Icon: "pencil", Title: t.t("advice.declaration.title"), Text: t.t("advice.declaration.text")},
		{Href: v.path(kiosk.StepRecipient), Icon: "back", Title: t.t("advice.recipient.title"), Text: t.t("advice.recipient.text")},
	}
	return t.err
}

func (s *Server) postAdvice(c echo.Context, v visit) error {
	if c.FormValue("choice") != "declaration" {
		return kiosk.ErrUnknown
	}
	return s.desk.SetService(c.Request().Context(), v.session, kiosk.SelfDeclaration)
}

// certificatePage is what the choice of certificates shows.
type certificatePage struct {
	Groups []certificateGroup
	Group  string
	Chosen []certificateText
}

type certificateGroup struct {
	Name  string
	Href  string
	Open  bool
	Count int // chosen in it
}

func (s *Server) showCertificate(c echo.Context, v visit, p *page) (err error) {
	cat := s.desk.Catalogue()
	chosen := v.view.Answers.Certificates
	d := certificatePage{Group: c.FormValue("group")}
	groups := cat.Groups()
	if !slices.Contains(groups, d.Group) {
		d.Group = groups[0]
	}
	counts := map[string]int{}
	for _, slug := range chosen {
		row, _ := cat.Certificate(slug)
		counts[row.Group]++
		d.Chosen = append(d.Chosen, s.certificate(p.lang, slug))
	}
	for _, g := range groups {
		d.Groups = append(d.Groups, certificateGroup{g, v.path(kiosk.StepCertificate) + "?group=" + url.QueryEscape(g), g == d.Group, counts[g]})
	}
	t := &texts{l: p.lang}
	for _, row := range cat.Certificates() {
		if row.Group != d.Group {
			continue
		}
		ct := s.certificate(p.lang, row.Slug)
		cd := card{
			Name: "toggle", Value: row.Slug, Icon: "certificate", Title: ct.Name, Text: ct.Text, Toggle: true, Chosen: slices.Contains(chosen, row.Slug),
		}
		p.Cards = append(p.Cards, cd)
	}
	if !v.lineUp {
		p.Banner = t.t("certificate.offline")
	}
	p.Data = d
	return t.err
}

func (s *Server) postCertificate(c echo.Context, v visit) error {
	ctx := c.Request().Context()
	slug := c.FormValue("toggle")
	if slug == "" {
		err := s.desk.ConfirmCertificates(ctx, v.session)
		if errors.Is(err, kiosk.ErrNothing) {
			return &refusal{key: "certificate.nothing"}
		}
		return err
	}
	err := s.desk.ToggleCertificate(ctx, v.session, slug)
	var conflict *kiosk.ConflictError
	if errors.As(err, &conflict) {
		l := s.cfg.Texts.Language(v.view.Language)
		return &refusal{key: joinKey("conflict", conflict.Conflict.Reason), args: []any{
			"a", s.certificate(l, conflict.Conflict.A.Slug).Name, "b", s.certificate(l, conflict.Conflict.B.Slug).Name,
		}}
	}
	if err != nil {
		return err
	}
	return seeOther(c, v.path(kiosk.StepCertificate)+"?group="+url.QueryEscape(c.FormValue("group")))
}

func (s *Server) showHolder(_ echo.Context, v visit, p *page) error {
	answers := []string{string(kiosk.Self), string(kiosk.Family)}
	return choice(p, answers, map[string]string{"self": "person", "family": "family"}, string(v.view.Answers.Holder))
}

func (s *Server) postHolder(c echo.Context, v visit) error {
	return s.desk.SetHolder(c.Request().Context(), v.session, kiosk.Holder(c.FormValue("choice")))
}

func (s *Server) showStamp(_ echo.Context, v visit, p *page) error {
	if err := lead(p); err != nil {
		return err
	}
	answers := []string{string(kiosk.StampDue), string(kiosk.StampExempt)}
	return choice(p, answers, map[string]string{"due": "euro", "exempt": "free"}, string(v.view.Answers.Stamp))
}

func (s *Server) postStamp(c echo.Context, v visit) error {
	return s.desk.SetStamp(c.Request().Context(), v.session, kiosk.Stamp(c.FormValue("choice")))
}

// exemptionsPerPage is how many reasons stand on one page, so that each is as large as a hand.
const exemptionsPerPage = 5

func (s *Server) showExemption(c echo.Context, v visit, p *page) error {
	all := s.desk.Catalogue().Exemptions()
	last := (len(all) - 1) / exemptionsPerPage
	n, err := strconv.Atoi(c.QueryParam("page"))
	if err != nil || n < 0 || n > last {
		n = slices.IndexFunc(all, func(e kiosk.Exemption) bool { return e.Code == v.view.Answers.Exemption })
		n = max(0, n) / exemptionsPerPage
	}
	t := &texts{l: p.lang}
	for _, e := range all[n*exemptionsPerPage : min(len(all), (n+1)*exemptionsPerPage)] {
		cd := card{Name: "choice", Value: itoa(e.Code), Icon: "free", Title: e.Reason, Note: e.Law, Chosen: e.Code == v.view.Answers.Exemption}
		if key := joinKey("exemption", e.Code, "title"); p.lang.Has(key) {
			cd.Title, cd.Text = t.t(key), t.t(joinKey("exemption", e.Code, "text"))
		}
		p.Cards = append(p.Cards, cd)
	}
	next := (n + 1) % (last + 1)
	p.Cards = append(p.Cards, card{
		Href: v.path(kiosk.StepExemption) + "?page=" + itoa(next), Icon: "next", Title: t.t("exemption.more.title"), Text: t.t("exemption.more.text"),
	})
	return t.err
}

func (s *Server) postExemption(c echo.Context, v visit) error {
	code, err := strconv.Atoi(c.FormValue("choice"))
	if err != nil {
		return kiosk.ErrUnknown
	}
	return s.desk.SetExemption(c.Request().Context(), v.session, code)
}

func (s *Server) showMember(_ echo.Context, v visit, p *page) error {
	t := &texts{l: p.lang}
	for _, m := range v.view.Family {
		p.Cards = append(p.Cards, card{
			Name: "choice", Value: m.Ref, Icon: "person", Title: m.Name + " " + m.FamilyName, Text: t.t("member.year", "year", m.YearOfBirth),
			Chosen: m.Ref == v.view.Answers.Member,
		})
	}
	return t.err
}

func (s *Server) postMember(c echo.Context, v visit) error {
	return s.desk.SetMember(c.Request().Context(), v.session, c.FormValue("choice"))
}
