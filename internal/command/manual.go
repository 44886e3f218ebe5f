package command

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// What --help prints, manual pages and completions are made from the commands' definitions.

// indent is before the lines of examples.
const indent = "   "

// helpWidth is the width of what --help prints, in columns.
const helpWidth = 80

// printHelp prints what --help shows.
func printHelp(cmd *cobra.Command, _ []string) {
	w := cmd.OutOrStdout()
	fmt.Fprintf(w, "%s - %s\n\n%s\n", cmd.CommandPath(), cmd.Short, usage(cmd, indent))
	if cmd.Long != "" {
		fmt.Fprintf(w, "\n%s\n", filled(cmd.Long))
	}
	if cmd.HasAvailableSubCommands() {
		fmt.Fprint(w, "\nCOMMANDS:\n\n")
		for _, c := range cmd.Commands() {
			if c.IsAvailableCommand() {
				fmt.Fprintf(w, "   %-10s  %s\n", c.Name(), c.Short)
			}
		}
	}
	fmt.Fprintf(w, "\nOPTIONS:\n\n%s", cmd.Flags().FlagUsagesWrapped(helpWidth))
}

// filled returns a text of --help with lines of helpWidth. What is indented stays as it is, and what is a list a list.
func filled(text string) string {
	paragraphs := strings.Split(text, "\n\n")
	for i, p := range paragraphs {
		switch {
		case strings.HasPrefix(p, indent):
		case isList(p):
			lines := strings.Split(p, "\n")
			for i, line := range lines {
				lines[i] = wrapped(line, strings.Repeat(" ", strings.Index(line, listDash)+len(listDash)))
			}
			paragraphs[i] = strings.Join(lines, "\n")
		default:
			paragraphs[i] = wrapped(p, "")
		}
	}
	return strings.Join(paragraphs, "\n\n")
}

// wrapped breaks a paragraph into lines; those after the first one begin with hanging.
func wrapped(paragraph, hanging string) string {
	var b strings.Builder
	width := 0
	for i, word := range strings.Fields(paragraph) {
		n := columnsOf(word)
		switch {
		case i == 0:
		case width+1+n > helpWidth:
			b.WriteString("\n" + hanging)
			width = len(hanging)
		default:
			b.WriteString(" ")
			width++
		}
		b.WriteString(word)
		width += n
	}
	return b.String()
}

// listDash is between an exit status and what it means, in a list of them.
const listDash = " - "

func isList(paragraph string) bool {
	first, _, _ := strings.Cut(paragraph, "\n")
	_, meaning, _ := strings.Cut(first, listDash)
	return meaning != ""
}

// usage returns the lines that show how a command is called.
func usage(cmd *cobra.Command, indent string) string {
	line := cmd.Use
	if cmd.HasParent() {
		line = cmd.Parent().CommandPath() + " " + line
	} else {
		line += " COMMAND"
	}
	return indent + strings.ReplaceAll(line, "\n", "\n"+indent)
}

func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "print the manual of a command",
		Long:  "procsem COMMAND --help does the same.",
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return unknownCommand(cmd.Root(), args[0])
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
	}
}

// completeNames returns the names of the semaphores that exist, with what is to be known of each.
func completeNames(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
	switch {
	case len(args) == 0 && cmd.Name() != "list", cmd.Name() == "unlink":
	case cmd.Name() == "run":
		return nil, cobra.ShellCompDirectiveDefault // the command, and its files
	default:
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	if os.Getenv(storeVariable) != "" || cmd.Flags().Changed(storeFlag) {
		return nil, cobra.ShellCompDirectiveNoFileComp // a store is not asked at each key
	}
	if err := chooseDirectory(cmd); err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	files, err := storedFiles()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var found []cobra.Completion
	for _, f := range files {
		s, err := summarize(f)
		if err != nil || !strings.HasPrefix(f.Name, begun) || !harmless(f.Name) || slices.Contains(args, f.Name) {
			continue
		}
		found = append(found, cobra.CompletionWithDesc(f.Name, s.String()))
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}

// harmless reports whether a name means nothing to any shell. Names are chosen by all users, and
// bash inserts what is common to several completions as it is, and evaluates the line at the next TAB.
func harmless(name string) bool {
	return name[0] != '-' && strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._+@:-") == ""
}

// String says in a few words what there is.
func (s summary) String() string {
	if s.Limit == nil {
		return fmt.Sprintf("%s, %s free", s.Kind, number(s.Free))
	}
	return fmt.Sprintf("%d of %d free, %d waiting", *s.Free, *s.Limit, *s.Waiting)
}

// scripts make the completions of shells.
var scripts = map[string]func(*cobra.Command, io.Writer) error{
	"bash":       func(c *cobra.Command, w io.Writer) error { return c.GenBashCompletionV2(w, true) },
	"zsh":        (*cobra.Command).GenZshCompletion,
	"fish":       func(c *cobra.Command, w io.Writer) error { return c.GenFishCompletion(w, true) },
	"powershell": (*cobra.Command).GenPowerShellCompletionWithDesc,
}

var shells = []string{"bash", "zsh", "fish", "powershell"}

func completion() *cobra.Command {
	return &cobra.Command{
		Use:   "completion SHELL",
		Short: "print a script by which a shell completes names",
		Long: `SHELL is bash, zsh, fish or powershell. In a shell that runs:

   bash        source <(procsem completion bash)     (with bash-completion)
   zsh         source <(procsem completion zsh)      (after compinit)
   fish        procsem completion fish | source
   PowerShell  procsem completion powershell | Out-String | Invoke-Expression

Names of semaphores are completed with how many permits are free. Only names of letters,
digits and ._+@:- are, since other characters may mean something to the shell.`,
		ValidArgs: shells,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || scripts[args[0]] == nil {
				return usageError(cmd.CommandPath(), "arguments: %q; one of %s is needed", args, strings.Join(shells, ", "))
			}
			return scripts[args[0]](cmd.Root(), cmd.OutOrStdout())
		},
	}
}

func manual() *cobra.Command {
	return &cobra.Command{
		Use:   "man DIRECTORY",
		Short: "write the manual pages into a directory",
		Long: `The pages are those of --help: procsem.1, procsem-run.1 and so on. In a directory
man1 of the MANPATH, /usr/local/share/man/man1 say, man(1) finds them.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError(cmd.CommandPath(), "arguments: %d; a DIRECTORY is needed", len(args))
			}
			root := cmd.Root()
			for _, c := range append([]*cobra.Command{root}, root.Commands()...) {
				if c != root && !c.IsAvailableCommand() {
					continue
				}
				if err := writePage(filepath.Join(args[0], pageOf(c)+".1"), c); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// pageOf returns the name of a command's manual page.
func pageOf(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

func writePage(path string, cmd *cobra.Command) error {
	// By another name first: so nothing half-written takes a page's place, and a link that somebody
	// has put there is replaced, not followed.
	temporary := fmt.Sprintf("%s.%d.tmp", path, os.Getpid())
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	printPage(w, cmd)
	if err = errors.Join(w.Flush(), f.Close()); err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		os.Remove(temporary)
	}
	return err
}

// printPage prints a manual page in the language of man(7).
func printPage(w io.Writer, cmd *cobra.Command) {
	cmd.InitDefaultHelpFlag()
	fmt.Fprintf(w, ".TH %s 1 \"\" \"procsem %s\" \"procsem\"\n", strings.ToUpper(pageOf(cmd)), version())
	fmt.Fprintln(w, ".nh\n.ad l") // no hyphens that are not ours
	fmt.Fprintf(w, ".SH NAME\n%s \\- %s\n.SH SYNOPSIS\n.nf\n%s\n.fi\n", pageOf(cmd), roff(cmd.Short), roff(usage(cmd, "")))
	fmt.Fprintln(w, ".SH DESCRIPTION")
	printText(w, cmd.Long)
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintln(w, ".SH COMMANDS")
		for _, c := range cmd.Commands() {
			if c.IsAvailableCommand() {
				fmt.Fprintf(w, ".TP\n.BR %s (1)\n%s\n", pageOf(c), roff(c.Short))
			}
		}
	}
	fmt.Fprintln(w, ".SH OPTIONS")
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		argument, text := pflag.UnquoteUsage(f)
		option := "\\-\\-" + roff(f.Name)
		if f.Shorthand != "" {
			option = "\\-" + f.Shorthand + ", " + option
		}
		if argument != "" {
			option += " \\fI" + roff(argument) + "\\fB"
		}
		fmt.Fprintf(w, ".TP\n\\fB%s\\fR\n%s\n", option, roff(text))
	})
	if cmd.HasParent() {
		fmt.Fprintf(w, ".SH SEE ALSO\n.BR %s (1)\n", pageOf(cmd.Root()))
	}
}

// printText prints a text of --help: lines in capitals with a colon are headings, what is indented stays
// as it is, and lines "64 - usage" are a list.
func printText(w io.Writer, text string) {
	for _, paragraph := range strings.Split(text, "\n\n") {
		lines := strings.Split(paragraph, "\n")
		first := lines[0]
		switch {
		case strings.HasSuffix(first, ":") && strings.ToUpper(first) == first:
			fmt.Fprintf(w, ".SH %s\n", roff(strings.TrimSuffix(first, ":")))
		case strings.HasPrefix(first, indent):
			fmt.Fprintf(w, ".RS\n.nf\n%s\n.fi\n.RE\n", roff(strings.ReplaceAll(paragraph[len(indent):], "\n"+indent, "\n")))
		case isList(paragraph):
			for _, line := range lines {
				status, meaning, _ := strings.Cut(line, listDash)
				fmt.Fprintf(w, ".TP\n%s\n%s\n", roff(status), roff(meaning))
			}
		default:
			fmt.Fprintf(w, ".PP\n%s\n", roff(paragraph))
		}
	}
}

// roff quotes what troff would obey.
func roff(text string) string {
	text = strings.NewReplacer("\\", "\\e", "-", "\\-").Replace(text)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = "\\&" + line
		}
	}
	return strings.Join(lines, "\n")
}
