package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// surveyPatience is how long one node has to say who the members are: it has that in memory.
const surveyPatience = 2 * time.Second

// View is what one node says of its cluster.
type View struct {
	// ID is that of the member that was asked; empty for a server that gave no answer and is not known to be one.
	ID string
	// Server is the base URL at which it was asked.
	Server string
	// Members is what it said, if Err is nil.
	Members Members
	// Err is why it gave no answer.
	Err error
}

// Survey asks all servers, and then all members that they know, who the members are, so that nodes which do not see each
// other are found. The views are in the order of the servers, then of the members' names; each node has one, even
// if two servers lead to it. Nodes that do not answer within 2 s have one with an error, whatever their state is said
// to be.
//
// Members are asked at their own addresses, by https if a server says that its clients come by TLS. So that a token does not go there in
// the clear, they are not asked if there is one, a server is an https URL, and they would be asked by http. The error is ErrUnreachable if no server answers, or what the first
// one that does says instead of an answer; the views tell more.
func (c *Client) Survey(ctx context.Context) ([]View, error) {
	views := askAll(c.servers, func(server *url.URL) View {
		v := c.view(ctx, server)
		v.Server = server.Redacted()
		return v
	})
	if err := noAnswer(views); err != nil {
		return views, err
	}
	identify(views)
	known := make(map[string]bool)
	views = slices.DeleteFunc(views, func(v View) bool {
		double := v.ID != "" && known[v.ID]
		known[v.ID] = true
		return double
	})
	scheme := "http"
	if slices.ContainsFunc(views, func(v View) bool { return v.Members.TLS }) {
		scheme = "https"
	}
	guarded := scheme == "http" && c.token != "" && slices.ContainsFunc(c.servers, func(s *url.URL) bool { return s.Scheme == "https" })
	for from := 0; from < len(views) && !guarded; {
		news := newcomers(views[from:], known)
		from = len(views)
		views = append(views, askAll(news, func(m Member) View {
			server := &url.URL{Scheme: scheme, Host: m.Address}
			v := c.view(ctx, server)
			if v.Err == nil && v.ID != m.ID {
				v = View{Err: fmt.Errorf("another node answers there: %s", v.Members.Self)}
			}
			v.ID, v.Server = m.ID, server.String()
			return v
		})...)
	}
	return views, nil
}

// identify enters the ids of those that gave no answer where the address of a member was asked.
func identify(views []View) {
	for _, v := range views {
		for _, m := range v.Members.Members {
			for i := range views {
				if views[i].ID == "" && m.Address != "" && strings.HasSuffix(views[i].Server, "://"+m.Address) {
					views[i].ID = m.ID
				}
			}
		}
	}
}

// newcomers returns the members that views know and that are not known, with an address, ascending by name, and enters
// them there.
func newcomers(views []View, known map[string]bool) (news []Member) {
	for _, v := range views {
		for _, m := range v.Members.Members {
			if !known[m.ID] && m.Address != "" {
				known[m.ID] = true
				news = append(news, m)
			}
		}
	}
	slices.SortFunc(news, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	return news
}

// noAnswer returns nil if there is a view without an error.
func noAnswer(views []View) error {
	var first error
	for _, v := range views {
		if v.Err == nil {
			return nil
		}
		if _, answered := errors.AsType[*Error](v.Err); first == nil || answered {
			first = v.Err
		}
	}
	return fmt.Errorf("survey: %w", first)
}

// view asks one server.
func (c *Client) view(ctx context.Context, server *url.URL) View {
	ctx, cancel := context.WithTimeout(ctx, surveyPatience)
	defer cancel()
	one := &Client{servers: []*url.URL{server}, token: c.token, maxValue: c.maxValue}
	one.http = http.Client{Transport: c.http.Transport, CheckRedirect: c.http.CheckRedirect, Jar: c.http.Jar, Timeout: c.http.Timeout}
	var v View
	if v.Err = one.decode(ctx, "/-/members", &v.Members); v.Err != nil {
		return View{Err: v.Err}
	}
	if v.Members.SelfID == "" {
		return View{Err: fmt.Errorf("%w: it does not say who it is", ErrNotSnakes)}
	}
	v.ID = v.Members.SelfID
	return v
}

// askAll calls ask for each of what at once and returns the answers in the same order.
func askAll[T any](what []T, ask func(T) View) []View {
	views := make([]View, len(what))
	var asking sync.WaitGroup
	for i, one := range what {
		asking.Go(func() { views[i] = ask(one) })
	}
	asking.Wait()
	return views
}
