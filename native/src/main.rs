//! The `magnet-native` program: parse, run, print one error, exit.

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use magnet_native::cli::{Cli, Command};
use magnet_native::console::Console;
use magnet_native::error::{exit, exit_code, is_broken_pipe};
use magnet_native::{
    bench, demo, doctor, evaluate, exchange, predict, prepare, protocol, report, synthetic, train,
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let console = Console::from(cli.output);
    match run(&cli.command, &console) {
        Ok(()) => ExitCode::from(exit::DONE),
        Err(error) if is_broken_pipe(&error) => ExitCode::from(exit::DONE),
        Err(error) => {
            console.error(&error);
            ExitCode::from(exit_code(&error))
        }
    }
}

fn run(command: &Command, console: &Console) -> anyhow::Result<()> {
    match command {
        Command::Demo(args) => demo::run(args, console, run),
        Command::Synthesize(args) => synthetic::run(args, console),
        Command::Prepare(command) => prepare::run(command, console),
        Command::Train(args) => train::command(args, console),
        Command::Evaluate(args) => evaluate::run(args, console),
        Command::CrossValidate(args) => protocol::cross_validate(args, console),
        Command::Ablate(args) => protocol::ablate(args, console),
        Command::Predict(args) => predict::run(args, console),
        Command::Report(command) => report::paper::run(command, console),
        Command::Import(args) => exchange::import(args, console),
        Command::Export(args) => exchange::export(args, console),
        Command::Bench(args) => bench::run(args, console),
        Command::Doctor(args) => doctor::run(args, console),
        Command::Completions(args) => completions(args.shell),
    }
}

fn completions(shell: clap_complete::Shell) -> anyhow::Result<()> {
    // Into memory first: the generator panics on a closed pipe.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "magnet-native", &mut script);
    std::io::Write::write_all(&mut std::io::stdout().lock(), &script)?;
    Ok(())
}
