//go:build linux

package lab

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Rule is a rule of netfilter for the TCP segments to a port, or from it.
type Rule struct {
	Hook   string // input, forward or output
	Action string // reset: answer with a RST; refuse: with ICMP "port unreachable"; drop
	From   bool   // the segments from the port
	Port   uint16
}

const firewallTable = "closetrace"

var (
	ruleHooks = map[string]*nftables.ChainHook{
		"input": nftables.ChainHookInput, "forward": nftables.ChainHookForward, "output": nftables.ChainHookOutput,
	}
	ruleActions = map[string]expr.Any{
		"reset":  &expr.Reject{Type: unix.NFT_REJECT_TCP_RST},
		"refuse": &expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_PORT_UNREACH},
		"drop":   &expr.Verdict{Kind: expr.VerdictDrop},
	}
)

// Add adds the rule to the network namespace of the calling thread.
func (r Rule) Add() error {
	hook, action := ruleHooks[r.Hook], ruleActions[r.Action]
	if hook == nil || action == nil {
		return fmt.Errorf("no rule %s %s", r.Hook, r.Action)
	}
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	table := conn.AddTable(&nftables.Table{Name: firewallTable, Family: nftables.TableFamilyINet})
	chain := conn.AddChain(&nftables.Chain{
		Name: r.Hook, Table: table, Type: nftables.ChainTypeFilter, Hooknum: hook,
		Priority: nftables.ChainPriorityFilter,
	})
	const register = 1
	offset := uint32(2) // of the destination port in a TCP header
	if r.From {
		offset = 0
	}
	conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: register},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Payload{Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: 2, DestRegister: register},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: binary.BigEndian.AppendUint16(nil, r.Port)},
		action,
	}})
	return conn.Flush()
}

// RemoveRules removes all rules that were added in the network namespace of the calling thread.
func RemoveRules() error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	conn.DelTable(&nftables.Table{Name: firewallTable, Family: nftables.TableFamilyINet})
	return conn.Flush()
}

// LoadFirewall makes the kernel load its modules for rules, where a scenario needs them: a module that is loaded later
// is not traced. Whether that is possible, the scenarios find out.
func LoadFirewall(scenarios []*Scenario) {
	if !slices.ContainsFunc(scenarios, func(sc *Scenario) bool { return slices.Contains(sc.Needs, needFirewall) }) {
		return
	}
	onNewThread(func() {
		if unix.Unshare(unix.CLONE_NEWNET) == nil {
			_, _ = lacksFirewall()
		}
	})
}

const needFirewall = "nf_tables"

// lacksFirewall returns why a segment cannot be rejected in the network namespace of the calling thread, "" if it can.
func lacksFirewall() (string, error) {
	if err := (Rule{Hook: "input", Action: "reset", Port: 1}).Add(); err != nil {
		return err.Error(), nil
	}
	return "", RemoveRules()
}

// doFirewall adds a rule for the segments that go to a socket's port.
func doFirewall(r *sandbox, _ struct{}, args []string) (string, error) {
	s, ok := r.res.Sockets[args[2]]
	if !ok {
		return "", fmt.Errorf("no socket %s", args[2])
	}
	return "", Rule{Hook: args[0], Action: args[1], Port: s.Local.Port()}.Add()
}

// doNoFirewall removes all rules.
func doNoFirewall(*sandbox, struct{}, []string) (string, error) { return "", RemoveRules() }
